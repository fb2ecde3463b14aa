// 8:16 code to mask, combinational, for few levels: two nibbles of the high byte by comparisons side by
// side, the low byte from the tables A and L8 (SPEC annex B.2).
`default_nettype none

module nm_nibbles_8_16 (
    input  wire logic [13:0] code,
    output wire logic        valid,
    output wire logic [15:0] mask
);
    wire logic [3:0] n3, n2;       // columns 12 ... 15 and 8 ... 11
    wire logic [9:0] rest3;        // < C(12, 6) = 924
    wire logic [6:0] rest2;        // < C(8, 4) = 70
    wire logic [3:0] left3, left2;
    wire logic [7:0] low;

    nm_nibble #(.P(12), .LO(8), .HI(8), .IW(14), .OW(10)) u_n3 (
        .rest(code), .left(4'd8), .nibble(n3), .after(rest3), .left_after(left3)
    );
    nm_nibble #(.P(8), .LO(4), .HI(8), .IW(10), .OW(7)) u_n2 (
        .rest(rest3), .left(left3), .nibble(n2), .after(rest2), .left_after(left2)
    );
    nm_low_byte u_low (.q(left2), .rest(rest2), .low(low));

    assign valid = code < 14'd12870;  // C(16, 8)
    assign mask  = valid ? {n3, n2, low} : 16'd0;
endmodule

`default_nettype wire
