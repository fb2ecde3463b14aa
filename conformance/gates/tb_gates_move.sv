// A mover, or its netlist: a gather (M operands to N slots) or a spread (N values to M lanes), for
// every mask of N:M.
//
// Every output bit must be one input bit, or 0 where a spread has no value.  Which one, the data sets
// tell: in four of them a bit is a bit of its element's number, in four a bit of its place in the
// element, in one all bits are 1 and in two they are random.
module tb_gates_move;
    parameter int N = 8, M = 16, W = 16;
    parameter int SPREAD = 0;
    parameter int META = 0;  // 2:4 metadata (SPEC annex A.5) in place of the mask
    localparam int F = SPREAD ? N : M;  // elements in
    localparam int T = SPREAD ? M : N;  // elements out
    localparam int SETS = 11;

    reg [M-1:0] mask, control;
    reg [F*W-1:0] from;
    reg [F*W-1:0] sets [0:SETS-1];
    wire [T*W-1:0] to;
    `DUT dut(control, from, to);

    reg [T*W-1:0] want;
    int checked = 0, failed = 0, slot = 0, seed = 816;
    reg [1:0] columns [0:1];

    task fill(input int set);
        for (int e = 0; e < F; e = e + 1)
            for (int b = 0; b < W; b = b + 1)
                if (set < 4) sets[set][e*W + b] = e[set];
                else if (set < 8) sets[set][e*W + b] = b[set-4];
                else if (set == 8) sets[set][e*W + b] = 1'b1;
                else sets[set][e*W + b] = 1'($random(seed));
    endtask

    task check;
        begin
            slot = 0;
            want = '0;
            for (int i = 0; i < M; i = i + 1)
                if (mask[i]) begin
                    if (SPREAD) want[i*W +: W] = from[slot*W +: W];
                    else want[slot*W +: W] = from[i*W +: W];
                    if (META) columns[slot] = 2'(i);
                    slot = slot + 1;
                end
            control = META ? M'({columns[1], columns[0]}) : mask;
            #1;
            if (to !== want) begin
                if (failed == 0) $display("mask %b: got %h, want %h", mask, to, want);
                failed = failed + 1;
            end
            checked = checked + 1;
        end
    endtask

    initial begin
        for (int set = 0; set < SETS; set = set + 1) fill(set);
        for (int m = 0; m < 1 << M; m = m + 1)
            if ($countones(m[M-1:0]) == N)
                for (int set = 0; set < SETS; set = set + 1) begin
                    mask = m[M-1:0];
                    from = sets[set];
                    check;
                end
        if (failed != 0) $fatal(0, "FAIL %0d of %0d", failed, checked);
        $display("PASS %0d", checked);
        $finish;
    end
endmodule
