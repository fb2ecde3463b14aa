// The same function as nm_gather.sv as a network of log2 steps: an operand moves down by the number of
// empty columns below it, first by 1, then by 2, by 4 ...; combinational, for any N:M.
//
// No two stored operands meet: their order is kept, and after each step every one has moved by its
// distance modulo a power of two.  Operands of empty columns do not move and may be overwritten.
`default_nettype none

module nm_compact #(
    parameter int N = 8,   // stored
    parameter int M = 16,  // block
    parameter int W = 16   // bits of one operand
) (
    input  wire logic [M-1:0]   mask,
    input  wire logic [M*W-1:0] operands,
    output wire logic [N*W-1:0] gathered
);
    localparam int SW = $clog2(M - N + 1);  // bits of a distance, and steps

    for (genvar i = 0; i < M; i = i + 1) begin : g_column
        wire logic [SW-1:0] empty;  // empty columns below; at a stored column at most M - N
        if (i == 0) begin : g_first
            assign empty = '0;
        end else begin : g_next
            assign empty = g_column[i-1].empty + SW'(!mask[i-1]);
        end
    end

    for (genvar s = 0; s <= SW; s = s + 1) begin : g_step
        for (genvar i = 0; i < M; i = i + 1) begin : g_lane
            wire logic [SW-1:0] distance;  // still to go; 0 for what is not to move
            wire logic [W-1:0]  operand;
            if (s == 0) begin : g_in
                assign distance = g_column[i].empty & {SW{mask[i]}};
                assign operand  = operands[i*W +: W];
            end else begin : g_move
                wire logic [SW-1:0] stay =
                    g_step[s-1].g_lane[i].distance & {SW{!g_step[s-1].g_lane[i].distance[s-1]}};
                if (i + (1 << (s - 1)) < M) begin : g_from
                    wire logic come = g_step[s-1].g_lane[i+(1<<(s-1))].distance[s-1];
                    assign distance = come ? g_step[s-1].g_lane[i+(1<<(s-1))].distance : stay;
                    assign operand  = come ? g_step[s-1].g_lane[i+(1<<(s-1))].operand
                                           : g_step[s-1].g_lane[i].operand;
                end else begin : g_top
                    assign distance = stay;
                    assign operand  = g_step[s-1].g_lane[i].operand;
                end
            end
        end
    end

    for (genvar j = 0; j < N; j = j + 1) begin : g_slot
        assign gathered[j*W +: W] = g_step[SW].g_lane[j].operand;
    end
endmodule

`default_nettype wire
