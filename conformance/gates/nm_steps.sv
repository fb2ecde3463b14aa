// The compare-and-subtract steps of columns M-1 down to LOW (SPEC annex B.3), for any N:M, unrolled,
// combinational, each step no wider than the rest can be there.
//
// code must be valid.  taken[i] = column LOW + i is stored; left = stored columns below LOW; rest =
// the rank of the mask of the columns below LOW among those with `left` one bits.
//
// Before step p, rest < C(p+1, j), where j positions are still to place.  A bisection of the table S
// of annex B.2 that carries code - S[h] along is these same steps: S[h + 2^b] - S[h] = C(8+b, j).
`default_nettype none

module nm_steps #(
    parameter int N   = 8,    // stored
    parameter int M   = 16,   // block
    parameter int LOW = 0,    // the lowest column that is decided here
    parameter int CW  = 14,   // bits of a code
    parameter int RW  = 1     // bits of rest: enough for C(LOW, j) - 1
) (
    input  wire logic [CW-1:0]          code,
    output wire logic [M-LOW-1:0]       taken,
    output wire logic [RW-1:0]          rest,
    output wire logic [$clog2(N+1)-1:0] left
);
    localparam int JW = $clog2(N + 1);

    function automatic int choose(input int p, input int j);
        choose = j > p ? 0 : 1;
        for (int k = 1; k <= j && j <= p; k = k + 1) choose = choose * (p - k + 1) / k;
    endfunction

    // Fewest and most positions still to place before step p.
    function automatic int fewest(input int p);
        fewest = N > M - 1 - p ? N - (M - 1 - p) : 0;
    endfunction
    function automatic int most(input int p);
        most = N < p + 1 ? N : p + 1;
    endfunction

    // Bits of the rest before step p.  The loop variable stands outside for Icarus 11.
    function automatic int width(input int p);
        int j, top;
        top = 1;
        for (j = fewest(p); j <= most(p); j = j + 1)
            if (choose(p + 1, j) > top) top = choose(p + 1, j);
        width = top > 2 ? $clog2(top) : 1;
    endfunction

    // C(p, j) for every j, in words of 32; j that cannot be there has 0.
    function automatic logic [(1<<JW)*32-1:0] row(input int p);
        int j;
        row = '0;
        for (j = fewest(p); j <= most(p); j = j + 1) row[j*32 +: 32] = choose(p, j);
    endfunction

    for (genvar p = M - 1; p >= LOW; p = p - 1) begin : g_step
        localparam int RB = width(p);
        localparam logic [(1<<JW)*32-1:0] ROW = row(p);
        wire logic [RB-1:0] have;
        wire logic [JW-1:0] j;
        if (p == M - 1) begin : g_first
            assign have = code;
            assign j    = JW'(N);
        end else begin : g_next
            assign have = RB'(g_step[p+1].take ? g_step[p+1].less : g_step[p+1].have);
            assign j    = g_step[p+1].j - JW'(g_step[p+1].take);
        end
        wire logic [RB-1:0] below = ROW[{j, 5'd0} +: RB];  // masks without column p
        wire logic          borrow;
        wire logic [RB-1:0] less;
        assign {borrow, less} = {1'b0, have} - {1'b0, below};
        wire logic take = !borrow;
        assign taken[p-LOW] = take;
    end

    assign rest = RW'(g_step[LOW].take ? g_step[LOW].less : g_step[LOW].have);
    assign left = g_step[LOW].j - JW'(g_step[LOW].take);
endmodule

`default_nettype wire
