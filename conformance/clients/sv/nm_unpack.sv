// One byte-aligned group of codes of a row (SPEC 2.9, 2.12): wiring only.
//
// group holds byte k of the group, in file order, at [8*k +: 8], as a little-endian bus delivers it;
// codes holds code b at [b*WIDTH +: WIDTH].  In this arrangement stream bit i is bit i of both: LSB
// first costs no logic.  8:16: COUNT 4, WIDTH 14, 7 bytes.  2:4: COUNT 8, WIDTH 3, 3 bytes.
// A row ends inside a group unless its blocks are a multiple of COUNT: the codes past the last block
// are then of no block, and the stream bits after the last block are 0 (SPEC 2.10).
`default_nettype none

module nm_unpack #(
    parameter int COUNT = 4,   // codes of a group
    parameter int WIDTH = 14   // bits of one code
) (
    input  wire logic [COUNT*WIDTH-1:0] group,
    output wire logic [COUNT*WIDTH-1:0] codes
);
    for (genvar b = 0; b < COUNT; b = b + 1) begin : g_code
        assign codes[b*WIDTH +: WIDTH] = group[b*WIDTH +: WIDTH];
    end
endmodule

`default_nettype wire
