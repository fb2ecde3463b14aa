// Four columns of an 8:16 code at once, combinational: the nibble of the columns P ... P+3, when `left`
// positions are still to place in the columns below P+4 and rest < C(P+4, left) is the rank of their
// mask.
//
// 15 comparisons run side by side.  The threshold of nibble x is the number of masks with a smaller
// nibble: the sum over y < x of C(P, left - pop(y)).  Adding is what the annex B.2 table S does for
// bytes; the sums are made here, so no table is stored.
`default_nettype none

module nm_nibble #(
    parameter int P  = 12,  // the lowest column
    parameter int LO = 8,   // fewest and most positions that can be left
    parameter int HI = 8,
    parameter int IW = 14,  // bits of rest
    parameter int OW = 10   // bits of after
) (
    input  wire logic [IW-1:0] rest,
    input  wire logic [3:0]    left,
    output wire logic [3:0]    nibble,
    output wire logic [OW-1:0] after,       // rank below column P
    output wire logic [3:0]    left_after
);
    function automatic int choose(input int p, input int j);
        choose = j > p || j < 0 ? 0 : 1;
        for (int k = 1; k <= j && j <= p; k = k + 1) choose = choose * (p - k + 1) / k;
    endfunction

    function automatic int pop4(input int x);
        pop4 = x % 2 + x / 2 % 2 + x / 4 % 2 + x / 8 % 2;
    endfunction

    function automatic int threshold(input int x, input int j);
        int y;
        threshold = 0;
        for (y = 0; y < x; y = y + 1) threshold = threshold + choose(P, j - pop4(y));
    endfunction

    // bound = threshold of x for `left`; the loop over left is an AND-OR of constants.
    for (genvar x = 0; x <= 16; x = x + 1) begin : g_value
        wire logic [IW-1:0] bound;
        wire logic          reached;
        for (genvar j = LO; j <= HI; j = j + 1) begin : g_left
            localparam logic [IW-1:0] T = IW'(threshold(x, j));
            wire logic [IW-1:0] sum;
            if (j == LO) begin : g_first
                assign sum = LO == HI || left == 4'(j) ? T : '0;
            end else begin : g_next
                assign sum = g_left[j-1].sum | (left == 4'(j) ? T : '0);
            end
        end
        assign bound = g_left[HI].sum;
        if (x == 0) begin : g_always
            assign reached = 1'b1;
        end else if (x == 16) begin : g_never
            assign reached = 1'b0;
        end else begin : g_compare
            assign reached = rest >= bound;
        end
    end

    // The highest value reached, as one of 16 lines, gives the nibble and what to subtract.
    for (genvar x = 0; x < 16; x = x + 1) begin : g_line
        wire logic          here = g_value[x].reached && !g_value[x+1].reached;
        wire logic [3:0]    value;
        wire logic [IW-1:0] start;
        if (x == 0) begin : g_first
            assign value = 4'd0;
            assign start = '0;
        end else begin : g_next
            assign value = g_line[x-1].value | (here ? 4'(x) : 4'd0);
            assign start = g_line[x-1].start | (here ? g_value[x].bound : '0);
        end
    end

    assign nibble     = g_line[15].value;
    assign after      = OW'(rest - g_line[15].start);
    assign left_after = left - ({3'd0, nibble[0]} + {3'd0, nibble[1]}
                                + {3'd0, nibble[2]} + {3'd0, nibble[3]});
endmodule

`default_nettype wire
