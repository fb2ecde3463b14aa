// The operands of the two stored columns of a 2:4 block from the metadata of SPEC annex A.5: two column
// numbers of 2 bits, first < second, combinational.  The numbers are the selects: there is no decoder.
//
// The first stored column is never 3 and the second never 0, so each slot chooses among three operands.
`default_nettype none

module nm_gather_2_4_meta #(
    parameter int W = 16  // bits of one operand
) (
    input  wire logic [3:0]     meta,  // second index, first index
    input  wire logic [4*W-1:0] operands,
    output wire logic [2*W-1:0] gathered
);
    for (genvar j = 0; j < 2; j = j + 1) begin : g_slot
        wire logic [1:0]     column = meta[j*2 +: 2];
        wire logic [3*W-1:0] three  = operands[j*W +: 3*W];  // columns j, j + 1, j + 2
        wire logic [2:0]     here   = {column == 2'(j + 2), column == 2'(j + 1), column == 2'(j)};
        assign gathered[j*W +: W] = (three[2*W +: W] & {W{here[2]}})
                                  | (three[1*W +: W] & {W{here[1]}})
                                  | (three[0*W +: W] & {W{here[0]}});
    end
endmodule

`default_nettype wire
