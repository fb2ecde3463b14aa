// nm_mac_f32_seq against the files of `python -m nmref.conformance.dot_memh`.
//
// vvp ... +terms=FILE +dots=FILE (README.md).  Clocks without a term come in between, with operands
// that would show.
module tb_nm_mac_f32_seq;
    parameter int TERMS = 1;  // entries of the file of terms
    parameter int DOTS = 1;   // entries of the file of dots
    parameter int W = 16;     // bits of an operand

    reg [2*W+1:0] terms [0:TERMS-1];
    reg [31:0] dots [0:DOTS-1];

    reg clk = 0, rst = 1, in_valid = 0, in_first = 1, in_last = 1;
    reg [W-1:0] w = '1, x = '1;
    wire out_valid;
    wire [31:0] out;

    nm_mac_f32_seq #(.W(W)) dut (
        .clk(clk), .rst(rst), .in_valid(in_valid), .in_first(in_first), .in_last(in_last),
        .w(w), .x(x), .out_valid(out_valid), .out(out)
    );

    initial forever #5 clk = ~clk;

    reg [8*512-1:0] file;
    int sent = 0, checked = 0, failed = 0, first = 0, idle = 0;
    reg [31:0] first_got = '0, first_want = '0;
    reg [15:0] lfsr = 16'hace1;  // decides on clocks without a term

    task automatic wrong(input reg [31:0] got, input reg [31:0] want);
        if (failed == 0) begin
            first      = checked;
            first_got  = got;
            first_want = want;
        end
        failed = failed + 1;
    endtask

    // An out_valid that is x counts as an output, and a result too many or too few is a failure.
    initial forever begin
        @(negedge clk);
        if (!rst && out_valid !== 1'b0) begin
            if (checked >= DOTS) wrong(out, 'x);
            else if (out_valid !== 1'b1 || out !== dots[checked] || (^dots[checked]) === 1'bx)
                wrong(out, dots[checked]);
            checked = checked + 1;
        end
    end

    initial begin
        if ($value$plusargs("terms=%s", file)) $readmemh(file, terms);
        if ($value$plusargs("dots=%s", file)) $readmemh(file, dots);
        repeat (3) @(negedge clk);
        rst = 0;
        while (idle < 4) begin
            lfsr = {lfsr[14:0], lfsr[15] ^ lfsr[13] ^ lfsr[12] ^ lfsr[10]};
            in_valid = sent < TERMS && lfsr[2:0] != 3'd0;
            {in_first, in_last, w, x} = '1;
            if (in_valid) begin
                {in_first, in_last, w, x} = terms[sent];
                sent = sent + 1;
            end
            if (sent == TERMS && !in_valid) idle = idle + 1;
            @(negedge clk);
        end
        if (checked < DOTS) wrong('x, dots[checked]);
        if (failed != 0) $fatal(0, "not as the vectors say");
        $finish;
    end

    final
        if (failed == 0 && checked == DOTS) $display("PASS %0d", checked);
        else $display("FAIL %0d first %0d got %h want %h", failed, first, first_got, first_want);
endmodule
