// Dot of one row of an 8:16 weight and x: decoder and multiply-accumulate unit, one slot a clock.
//
// A clock with in_valid and in_ready takes one block: its code and its 8 values as in
// nm_decode_8_16.sv, and the 16 xs of its columns, column i at [i*W +: W].  in_first is the first block
// of a row, in_last the last one.  A block takes 8 clocks, and the next one may follow at once.
//
// A zero value makes no term (SPEC 8.3).  At virtual columns the values are bits zero (SPEC 3.8), so
// the xs there may be anything.  A code >= 12870 makes no terms either; out_error then says that a
// block of the row had one.  out_valid is 1 for one clock.
`default_nettype none

module nm_dot_8_16 #(
    parameter int W = 16  // bits of a value and of x: 16 (BF16) or 32 (F32) for f32.seq, 8 for i32
) (
    input  wire logic            clk,
    input  wire logic            rst,       // synchronous
    input  wire logic            in_valid,
    output wire logic            in_ready,
    input  wire logic            in_first,
    input  wire logic            in_last,
    input  wire logic [13:0]     code,
    input  wire logic [8*W-1:0]  values,
    input  wire logic [16*W-1:0] xs,
    output wire logic            out_valid,
    output wire logic            out_error,
    output wire logic [31:0]     out
);
    // The lanes of the decoder stay open: slots are in ascending order of columns, so the value of the
    // next stored column is always the next slot, and x alone has to be selected.
    wire logic        code_valid;
    wire logic [15:0] mask;
    /* verilator lint_off PINCONNECTEMPTY */
    nm_decode_8_16 #(.W(W)) u_decode (
        .code(code), .values(values), .valid(code_valid), .mask(mask), .lanes()
    );
    /* verilator lint_on PINCONNECTEMPTY */

    logic            busy, first, last, error;
    logic [2:0]      slot;
    logic [15:0]     rest;  // stored columns still to come
    logic [8*W-1:0]  slots;
    logic [16*W-1:0] block_x;

    wire logic at_end = slot == 3'd7;
    assign in_ready = !busy || at_end;

    always_ff @(posedge clk)
        if (rst) begin
            busy <= 1'b0;
            slot <= 3'd0;
        end else if (in_valid && in_ready) begin
            busy    <= 1'b1;
            slot    <= 3'd0;
            first   <= in_first;
            last    <= in_last;
            rest    <= mask;
            slots   <= code_valid ? values : '0;
            block_x <= xs;
            error   <= !code_valid || (error && !in_first);
        end else begin
            busy  <= busy && !at_end;
            slot  <= slot + 3'd1;
            rest  <= rest & (rest - 16'd1);
            slots <= slots >> W;
        end

    // x of the lowest column left: AND with one of 16 wires, then OR.
    wire logic [15:0] pick = rest & (~rest + 16'd1);
    for (genvar i = 0; i < 16; i = i + 1) begin : g_x
        wire logic [W-1:0] so_far;
        if (i == 0) begin : g_first
            assign so_far = {W{pick[0]}} & block_x[0 +: W];
        end else begin : g_next
            assign so_far = g_x[i-1].so_far | ({W{pick[i]}} & block_x[i*W +: W]);
        end
    end

    wire logic mac_first = first && slot == 3'd0;
    wire logic mac_last  = last && at_end;
    if (W == 8) begin : g_i32
        nm_mac_i32 u_mac (
            .clk(clk), .rst(rst), .in_valid(busy), .in_first(mac_first), .in_last(mac_last),
            .w(slots[7:0]), .x(g_x[15].so_far), .out_valid(out_valid), .out(out)
        );
    end else begin : g_f32
        nm_mac_f32_seq #(.W(W)) u_mac (
            .clk(clk), .rst(rst), .in_valid(busy), .in_first(mac_first), .in_last(mac_last),
            .w(slots[W-1:0]), .x(g_x[15].so_far), .out_valid(out_valid), .out(out)
        );
    end

    // error, as long under way as the last term.
    logic error_1, error_2;
    always_ff @(posedge clk) begin
        error_1 <= error;
        error_2 <= error_1;
    end
    assign out_error = error_2;
endmodule

`default_nettype wire
