// The multiplier, or its netlist, for all pairs.
module tb_gates_multiply;
    reg signed [7:0] a, b;
    wire signed [15:0] product;
    `DUT dut(a, b, product);

    int failed = 0;

    initial begin
        for (int x = -128; x < 128; x = x + 1)
            for (int y = -128; y < 128; y = y + 1) begin
                a = 8'(x);
                b = 8'(y);
                #1;
                if (32'(product) !== x * y) failed = failed + 1;
            end
        if (failed != 0) $fatal(0, "FAIL %0d of 65536", failed);
        $display("PASS 65536");
        $finish;
    end
endmodule
