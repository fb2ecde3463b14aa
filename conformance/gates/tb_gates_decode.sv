// A decoder, or its netlist, against two witnesses, for every code: the words of formats/tables, and the
// definition of a code (SPEC 2.5), which is that the masks in ascending order have the codes 0, 1, 2 ...
//
// iverilog -DDUT=module; the module has the ports code, valid, mask in this order.  Decoders that read
// the same table are not their own witness: a wrong word fails here whatever the decoder does.
module tb_gates_decode;
    parameter int N = 8, M = 16;  // pattern
    parameter int WIDTH = 14;     // bits of a code
    parameter int COUNT = 12870;  // C(M, N)
    parameter int WORDS = 12870;  // of the table file; above COUNT they are 0
    parameter TABLE = "formats/tables/8-16-decode.memh";

    reg [M:0] words [0:WORDS-1];  // a valid bit, in some files, and the mask
    reg [WIDTH-1:0] code;
    wire valid;
    wire [M-1:0] mask;
    `DUT dut(code, valid, mask);

    int checked = 0, failed = 0;

    task check(input want_valid, input [M-1:0] want);
        reg wrong;
        begin
            code = WIDTH'(checked);
            #1;
            wrong = {valid, mask} !== {want_valid, want};
            if (checked < WORDS) wrong = wrong || words[checked][M-1:0] !== want;
            if (wrong && failed == 0) $display("code %0d: got %b %h, want %b %h", checked,
                                              valid, mask, want_valid, want);
            failed  = failed + 32'(wrong);
            checked = checked + 1;
        end
    endtask

    initial begin
        $readmemh(TABLE, words);
        for (int m = 0; m < 1 << M; m = m + 1)
            if ($countones(m[M-1:0]) == N) check(1'b1, m[M-1:0]);
        if (checked != COUNT) $fatal(0, "%0d masks", checked);
        while (checked < 1 << WIDTH) check(1'b0, '0);
        if (failed != 0) $fatal(0, "FAIL %0d of %0d", failed, checked);
        $display("PASS %0d", checked);
        $finish;
    end
endmodule
