// 8:16 code to mask with one ROM of 12,870 words (SPEC annex B.1), combinational.
//
// The words are those of formats/tables; tools run at the root of the repository, where the path starts.
`default_nettype none

module nm_rom_8_16 (
    input  wire logic [13:0] code,
    output wire logic        valid,
    output wire logic [15:0] mask
);
    reg [15:0] words [0:12869];
    initial $readmemh("formats/tables/8-16-decode.memh", words);

    assign valid = code < 14'd12870;  // C(16, 8); the ROM has no words above
    assign mask  = valid ? words[code] : 16'd0;
endmodule

`default_nettype wire
