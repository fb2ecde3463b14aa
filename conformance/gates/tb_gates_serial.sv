// The serial decoder, or its netlist, for every code: back to back first, then with pauses, and a reset
// in the middle of a code.  Masks by the definition of a code (SPEC 2.5) and by formats/tables.
//
// The last line says how many clocks passed from the first code done to the last, back to back.
module tb_gates_serial;
    reg [15:0] words [0:12869];
    reg clock = 1'b0, reset = 1'b1, start = 1'b0;
    reg [13:0] code = 14'd0;
    wire ready, done, valid;
    wire [15:0] mask;
    `DUT dut(clock, reset, start, code, ready, done, valid, mask);
    always #1 clock = !clock;

    reg [16:0] want [0:16383];  // valid, mask
    int taken = 0, checked = 0, failed = 0, clocks = 0, first = 0, all = 0;

    // Before each rising edge: what the edge takes, and what the last one has done.
    always @(posedge clock) begin
        clocks <= clocks + 1;
        if (clocks == 300000) $fatal(0, "FAIL stuck: %0d codes taken, %0d done", taken, checked);
        if (start && ready && !reset) taken <= taken + 1;
        if (done !== 1'b0 && !reset) begin
            if ({valid, mask} !== want[checked[13:0]] || done !== 1'b1) failed <= failed + 1;
            checked <= checked + 1;
            if (checked == 0) first <= clocks;
            if (checked == 16383) all <= clocks - first;
        end
    end

    // Offer codes until `upto` are taken, with `pause` clocks between; inputs change at falling edges.
    task offer(input int upto, input int pause);
        while (taken < upto) begin
            start = 1'b1;
            code  = taken[13:0];
            @(negedge clock);
            if (pause != 0 && taken < upto) begin
                start = 1'b0;
                code  = 14'h3fff;  // must not be looked at
                repeat (pause) @(negedge clock);
            end
        end
    endtask

    int n = 0;
    initial begin
        $readmemh("formats/tables/8-16-decode.memh", words);
        for (int m = 0; m < 65536; m = m + 1)
            if ($countones(m[15:0]) == 8) begin
                want[n] = {1'b1, m[15:0]};
                if (words[n] !== m[15:0]) failed = failed + 1;
                n = n + 1;
            end
        while (n < 16384) begin
            want[n] = 17'd0;
            n = n + 1;
        end

        repeat (2) @(negedge clock);
        reset = 1'b0;
        offer(16384, 0);
        start = 1'b0;
        repeat (20) @(negedge clock);
        if (checked != 16384) $fatal(0, "FAIL %0d codes done", checked);

        start = 1'b1;  // a code that a reset ends: never done, nothing is left of it
        code  = 14'd12869;
        repeat (7) @(negedge clock);
        reset = 1'b1;
        start = 1'b0;
        @(negedge clock);
        reset   = 1'b0;
        taken   = 0;
        checked = 0;
        repeat (40) @(negedge clock);
        if (checked != 0) $fatal(0, "FAIL done after reset");

        offer(100, 3);
        start = 1'b0;
        repeat (20) @(negedge clock);
        if (checked != 100) $fatal(0, "FAIL %0d codes done with pauses", checked);
        if (failed != 0) $fatal(0, "FAIL %0d", failed);
        $display("PASS 16384 clocks %0d", all);
        $finish;
    end
endmodule
