// 8:16 code to mask, one column per clock (SPEC annex B.3).
//
// A code is taken at a rising edge with start and ready; done is high for the one cycle after the last
// of the 16 steps, and then valid and mask are those of that code.  ready is high in the last step, so
// codes can follow each other every 16 clocks.  reset is synchronous.
//
// The ROM has C(p, j) at 9p + j.  A step goes from (p, j) to (p-1, j - take): 9 + take addresses down,
// so the address is all there is of p and j.  At j = 0 the ROM has 1 and the rest is 0: nothing is
// taken.  An invalid code runs like that from the start and gives mask 0.
`default_nettype none

module nm_serial_8_16 (
    input  wire logic        clock,
    input  wire logic        reset,
    input  wire logic        start,
    input  wire logic [13:0] code,
    output wire logic        ready,
    output reg               done,
    output reg               valid,
    output reg  [15:0]       mask
);
    reg [12:0] binomials [0:143];
    initial $readmemh("formats/tables/8-16-serial-c.memh", binomials);

    reg        busy;
    reg        in_range;  // of the code in the steps
    reg [7:0]  address;
    reg [13:0] rest;

    wire logic        borrow;
    wire logic [13:0] less;
    assign {borrow, less} = {1'b0, rest} - {2'b0, binomials[address]};
    wire logic last  = address < 8'd8;  // p = 0, where j is 0 or 1; at p = 1 it is 9 or more
    wire logic legal = code < 14'd12870;  // C(16, 8)
    assign ready = !busy || last;

    always @(posedge clock) begin
        done <= busy && last && !reset;
        busy <= !reset && (ready ? start : 1'b1);
        if (busy) begin
            valid   <= in_range;
            mask    <= {mask[14:0], !borrow};
            rest    <= borrow ? rest : less;
            address <= address - (borrow ? 8'd9 : 8'd10);
        end
        if (ready) begin
            in_range <= legal;
            rest     <= legal ? code : 14'd0;
            address  <= legal ? 8'd143 : 8'd135;  // p = 15, j = 8 or 0
        end
    end
endmodule

`default_nettype wire
