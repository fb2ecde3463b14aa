// nm_unpack against vectors.
//
// vvp ... +groups=FILE +codes=FILE (README.md): SIZE words of codes for each word of groups.
module tb_nm_unpack;
    parameter int COUNT = 256;  // entries
    parameter int SIZE = 4;    // codes of a group
    parameter int WIDTH = 14;  // bits of one code

    reg [SIZE*WIDTH-1:0] groups [0:COUNT-1];
    reg [WIDTH-1:0] codes [0:COUNT*SIZE-1];

    localparam int BITS = SIZE*WIDTH;
    reg [BITS-1:0] group;
    wire [BITS-1:0] got;
    reg [BITS-1:0] want;

    nm_unpack #(.COUNT(SIZE), .WIDTH(WIDTH)) dut (.group(group), .codes(got));

    reg [8*512-1:0] file;
    int checked = 0, failed = 0, first = 0;
    reg [BITS-1:0] first_got = '0, first_want = '0;

    initial begin
        if ($value$plusargs("groups=%s", file)) $readmemh(file, groups);
        if ($value$plusargs("codes=%s", file)) $readmemh(file, codes);
        for (int i = 0; i < COUNT; i = i + 1) begin
            group = groups[i];
            for (int b = 0; b < SIZE; b = b + 1) want[b*WIDTH +: WIDTH] = codes[i*SIZE + b];
            #1;
            // An x in a vector (file missing or short) fails, whatever the module makes of it.
            if (got !== want || (^{group, want}) === 1'bx) begin
                if (failed == 0) begin
                    first      = i;
                    first_got  = got;
                    first_want = want;
                end
                failed = failed + 1;
            end
            checked = checked + 1;
        end
        if (failed != 0) $fatal(0, "not as the vectors say");
        $finish;
    end

    final
        if (failed == 0 && checked == COUNT) $display("PASS %0d", checked);
        else $display("FAIL %0d first %0d got %h want %h", failed, first, first_got, first_want);
endmodule
