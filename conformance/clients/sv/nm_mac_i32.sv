// Dot of the profile i32 (SPEC 8.14), one term a clock: I8 times I8, the sum modulo 2^32.
//
// The ports are those of nm_mac_f32_seq.sv, with the same two clocks from in_last to out_valid.
`default_nettype none

module nm_mac_i32 (
    input  wire logic        clk,
    input  wire logic        rst,       // synchronous
    input  wire logic        in_valid,
    input  wire logic        in_first,
    input  wire logic        in_last,
    input  wire logic [7:0]  w,
    input  wire logic [7:0]  x,
    output wire logic        out_valid,
    output wire logic [31:0] out
);
    logic               p_valid, p_first, p_last, done;
    logic signed [15:0] p;
    logic [31:0]        acc;

    always_ff @(posedge clk) begin
        p_valid <= in_valid && !rst;
        p_first <= in_first;
        p_last  <= in_last;
        p       <= $signed(w) * $signed(x);
        done    <= p_valid && p_last && !rst;
        if (p_valid) acc <= (p_first ? 32'd0 : acc) + {{16{p[15]}}, p};
    end

    assign out_valid = done;
    assign out       = acc;
endmodule

`default_nettype wire
