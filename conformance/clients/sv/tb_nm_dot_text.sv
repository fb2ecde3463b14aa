// nm_mac_f32_seq between two pipes: dots as lines of text in, results as lines of text out.
//
//     nmref vectors dot --profile f32.seq --seed 1 -n 100 | vvp -n dot_text.vvp | nmref vectors check
//
// A line is `id K`, K words of w and K words of x, hexadecimal, W bits each; the answer is `id result`.
// Lines that begin with # are handed on.  +file=FILE reads a file instead of the standard input.
module tb_nm_dot_text;
    parameter int W = 32;           // bits of an operand: 16 (BF16) or 32 (F32)
    parameter int LONGEST = 65536;  // the largest K

    reg clk = 0, rst = 1, in_valid = 0, in_first = 0, in_last = 0;
    reg [W-1:0] w = '0, x = '0;
    wire out_valid;
    wire [31:0] out;

    nm_mac_f32_seq #(.W(W)) dut (
        .clk(clk), .rst(rst), .in_valid(in_valid), .in_first(in_first), .in_last(in_last),
        .w(w), .x(x), .out_valid(out_valid), .out(out)
    );

    initial forever #5 clk = ~clk;

    reg [8*512-1:0] file;
    reg [8*1024-1:0] line;
    reg [8*64-1:0] id;
    reg [W-1:0] row [0:2*LONGEST-1];  // w, then x
    integer source, c, k;             // $fscanf may make k unknown

    // The next byte that is no white space stays in the source; -1 at its end.
    task automatic next;
        c = $fgetc(source);
        while (c == " " || c == "\t" || c == "\r" || c == "\n") c = $fgetc(source);
        if (c != -1 && $ungetc(c, source) == -1) $fatal(0, "cannot read");
    endtask

    initial begin
        if (!$value$plusargs("file=%s", file)) file = "/dev/stdin";
        source = $fopen(file, "r");
        if (source == 0) $fatal(0, "cannot read");
        repeat (2) @(negedge clk);
        rst = 0;
        next();
        while (c != -1) begin
            if (c == "#") begin
                if ($fgets(line, source) != 0) $write("%0s", line);
            end else begin
                if ($fscanf(source, "%s %d", id, k) != 2 || !(k >= 0 && k <= LONGEST))
                    $fatal(0, "a line that does not begin with an id and K");
                for (int i = 0; i < 2 * k; i = i + 1)
                    if ($fscanf(source, "%h", row[i]) != 1 || (^row[i]) === 1'bx)
                        $fatal(0, "a line without 2 K hexadecimal numbers");
                // Without columns there are no terms: a zero weight makes none either.
                for (int i = 0; i < k || i == 0; i = i + 1) begin
                    in_valid = 1;
                    in_first = i == 0;
                    in_last  = i >= k - 1;
                    w        = k == 0 ? '0 : row[i];
                    x        = k == 0 ? '0 : row[k+i];
                    @(negedge clk);
                end
                in_valid = 0;
                repeat (3) if (out_valid !== 1'b1) @(negedge clk);
                if (out_valid !== 1'b1) $fatal(0, "no result");
                $display("%0s %h", id, out);
                @(negedge clk);
            end
            next();
        end
        $finish;
    end
endmodule
