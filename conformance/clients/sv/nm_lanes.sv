// Stored values to lanes (SPEC 2.4, 3.3, 4.9), combinational, for any N:M.
//
// values holds slot j at [j*W +: W], slots by ascending column; lanes holds column i of the block
// at [i*W +: W].  A column outside the mask gets 0.  The mask has at most N one bits.
`default_nettype none

module nm_lanes #(
    parameter int N = 8,   // stored
    parameter int M = 16,  // block
    parameter int W = 16   // bits of one value
) (
    input  wire logic [M-1:0]   mask,
    input  wire logic [N*W-1:0] values,
    output wire logic [M*W-1:0] lanes
);
    localparam int SW = $clog2(N);

    // slot = number of stored columns below column i; every lane is an N:1 multiplexer.  At a stored
    // column the slot is at most N - 1, so SW bits hold it; elsewhere it is not used.
    for (genvar i = 0; i < M; i = i + 1) begin : g_lane
        wire logic [SW-1:0] slot;
        if (i == 0) begin : g_first
            assign slot = '0;
        end else begin : g_next
            assign slot = g_lane[i-1].slot + SW'(mask[i-1]);
        end
        assign lanes[i*W +: W] = mask[i] ? values[slot*W +: W] : '0;
    end
endmodule

`default_nettype wire
