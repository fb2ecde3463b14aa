// 8:16 code to mask with half of the ROM, combinational: the mask of code 12869 - i is the complement
// of the mask of code i (SPEC annex B.1).  Column 15 is in no mask of the lower half, so words of 15
// bits suffice.
`default_nettype none

module nm_half_rom_8_16 (
    input  wire logic [13:0] code,
    output wire logic        valid,
    output wire logic [15:0] mask
);
    localparam int HALF = 6435;  // C(15, 8)

    reg [14:0] words [0:HALF-1];
    initial $readmemh("formats/tables/8-16-decode.memh", words, 0, HALF - 1);

    wire logic        upper   = code >= 14'(HALF);
    wire logic [12:0] address = 13'(upper ? 14'd12869 - code : code);

    assign valid = code < 14'd12870;  // C(16, 8)
    assign mask  = valid ? {upper, words[address] ^ {15{upper}}} : 16'd0;
endmodule

`default_nettype wire
