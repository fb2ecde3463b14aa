// The low byte of an 8:16 mask (SPEC annex B.2): byte number `rest` of those with q one bits.
`default_nettype none

module nm_low_byte (
    input  wire logic [3:0] q,
    input  wire logic [6:0] rest,
    output wire logic [7:0] low
);
    reg [7:0] first [0:8];
    reg [7:0] bytes [0:255];
    initial $readmemh("formats/tables/8-16-split-a.memh", first);
    initial $readmemh("formats/tables/8-16-split-l8.memh", bytes);

    wire logic [7:0] address = first[q] + {1'b0, rest};
    assign low = bytes[address];
endmodule

`default_nettype wire
