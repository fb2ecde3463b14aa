// nm_dot_8_16 against the files of `python -m nmref.conformance.dot_memh`.
//
// vvp ... +blocks=FILE +dots=FILE (README.md).  Blocks follow at once or after a pause, which may
// be longer than a block takes.
module tb_nm_dot_8_16;
    parameter int BLOCKS = 1;  // entries of the file of blocks
    parameter int DOTS = 1;    // entries of the file of dots
    parameter int W = 16;      // bits of a value and of x

    reg [24*W+15:0] blocks [0:BLOCKS-1];
    reg [32:0] dots [0:DOTS-1];

    reg clk = 0, rst = 1, in_valid = 0, in_first = 1, in_last = 1;
    reg [13:0] code = '1;
    reg [8*W-1:0] values = '1;
    reg [16*W-1:0] xs = '1;
    wire in_ready, out_valid, out_error;
    wire [31:0] out;

    nm_dot_8_16 #(.W(W)) dut (
        .clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready), .in_first(in_first),
        .in_last(in_last), .code(code), .values(values), .xs(xs), .out_valid(out_valid),
        .out_error(out_error), .out(out)
    );

    initial forever #5 clk = ~clk;

    reg [8*512-1:0] file;
    int sent = 0, checked = 0, failed = 0, first = 0, idle = 0, waiting = 0;
    reg taken = 0;
    reg [5:0] pause = '0;
    wire [35:0] got = {3'd0, out_error, out};  // one hexadecimal digit for error
    reg [35:0] first_got = '0, first_want = '0;
    reg [15:0] lfsr = 16'hace1;  // decides on pauses

    task automatic wrong(input reg [35:0] what, input reg [35:0] want);
        if (failed == 0) begin
            first      = checked;
            first_got  = what;
            first_want = want;
        end
        failed = failed + 1;
    endtask

    // An out_valid that is x counts as an output, and a result too many or too few is a failure.
    initial forever begin
        @(negedge clk);
        if (!rst && out_valid !== 1'b0) begin
            if (checked >= DOTS) wrong(got, 'x);
            else if (out_valid !== 1'b1 || got !== {3'd0, dots[checked]})
                wrong(got, {3'd0, dots[checked]});
            else if ((^dots[checked]) === 1'bx) wrong(got, {3'd0, dots[checked]});
            checked = checked + 1;
        end
    end

    initial begin
        if ($value$plusargs("blocks=%s", file)) $readmemh(file, blocks);
        if ($value$plusargs("dots=%s", file)) $readmemh(file, dots);
        repeat (3) @(negedge clk);
        rst = 0;
        while (idle < 12 && waiting < 100) begin
            lfsr = {lfsr[14:0], lfsr[15] ^ lfsr[13] ^ lfsr[12] ^ lfsr[10]};
            if (taken) begin
                in_valid = 0;
                {in_first, in_last, code, values, xs} = '1;
                pause = lfsr[1:0] == 2'd0 ? {1'b0, lfsr[6:2]} : 6'd0;
            end else if (pause != 6'd0) pause = pause - 6'd1;
            if (!in_valid && sent < BLOCKS && pause == 6'd0) begin
                in_valid = 1;
                {in_first, in_last, code, values, xs} = blocks[sent];
                sent = sent + 1;
            end
            // in_ready stays as it is until the rising edge, which takes the block.
            taken = in_valid && in_ready === 1'b1;
            waiting = taken || !in_valid ? 0 : waiting + 1;  // an in_ready that never comes must end
            if (sent == BLOCKS && !in_valid) idle = idle + 1;
            @(negedge clk);
        end
        if (checked < DOTS) wrong('x, {3'd0, dots[checked]});
        if (failed != 0) $fatal(0, "not as the vectors say");
        $finish;
    end

    final
        if (failed == 0 && checked == DOTS) $display("PASS %0d", checked);
        else $display("FAIL %0d first %0d got %h want %h", failed, first, first_got, first_want);
endmodule
