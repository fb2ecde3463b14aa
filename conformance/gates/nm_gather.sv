// The operands of the stored columns, by ascending column: slot j gets the operand of the column with
// j stored columns below it.  The opposite of nm_lanes.sv, combinational, for any N:M.
//
// operands holds column i at [i*W +: W]; gathered holds slot j at [j*W +: W].  The mask must have N
// one bits.  Slot j is one of the columns j ... j+M-N, so it is an AND-OR of M-N+1 operands, not of M.
`default_nettype none

module nm_gather #(
    parameter int N = 8,   // stored
    parameter int M = 16,  // block
    parameter int W = 16   // bits of one operand
) (
    input  wire logic [M-1:0]   mask,
    input  wire logic [M*W-1:0] operands,
    output wire logic [N*W-1:0] gathered
);
    // below[j] of column i: exactly j stored columns below i.  One AND-OR for each, and only where a
    // mask of N:M can have it.
    for (genvar i = 0; i < M; i = i + 1) begin : g_column
        wire logic [N-1:0] below;
        for (genvar j = 0; j < N; j = j + 1) begin : g_count
            if (i == 0) begin : g_first
                assign below[j] = j == 0;
            end else if (j > i || j < i - (M - N)) begin : g_never
                assign below[j] = 1'b0;
            end else if (j == 0) begin : g_none
                assign below[j] = g_column[i-1].below[j] && !mask[i-1];
            end else begin : g_some
                assign below[j] = mask[i-1] ? g_column[i-1].below[j-1] : g_column[i-1].below[j];
            end
        end
    end

    for (genvar j = 0; j < N; j = j + 1) begin : g_slot
        for (genvar i = j; i <= j + M - N; i = i + 1) begin : g_from
            wire logic [W-1:0] sum;
            wire logic         here = g_column[i].below[j] && mask[i];
            if (i == j) begin : g_first
                assign sum = operands[i*W +: W] & {W{here}};
            end else begin : g_next
                assign sum = g_from[i-1].sum | (operands[i*W +: W] & {W{here}});
            end
        end
        assign gathered[j*W +: W] = g_from[j+M-N].sum;
    end
endmodule

`default_nettype wire
