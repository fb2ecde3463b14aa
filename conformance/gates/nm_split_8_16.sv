// 8:16 code to mask, combinational, byte by byte (SPEC annex B.2): the high byte by eight narrow steps,
// which take the place of table S, the low byte from the tables A and L8.
`default_nettype none

module nm_split_8_16 (
    input  wire logic [13:0] code,
    output wire logic        valid,
    output wire logic [15:0] mask
);
    wire logic [7:0] high;
    wire logic [6:0] rest;  // rank of the low byte among the bytes with q one bits, 0 ... 69
    wire logic [3:0] q;
    wire logic [7:0] low;

    nm_steps #(.N(8), .M(16), .LOW(8), .CW(14), .RW(7)) u_high (
        .code(code), .taken(high), .rest(rest), .left(q)
    );
    nm_low_byte u_low (.q(q), .rest(rest), .low(low));

    assign valid = code < 14'd12870;  // C(16, 8)
    assign mask  = valid ? {high, low} : 16'd0;
endmodule

`default_nettype wire
