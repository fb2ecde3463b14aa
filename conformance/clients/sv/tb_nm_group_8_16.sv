// A group of four 8:16 blocks from the bytes of a file to 64 lanes: nm_unpack, nm_decode_8_16.
//
// vvp ... +groups=FILE +values=FILE +lanes=FILE (README.md); every code is valid.
module tb_nm_group_8_16;
    parameter int COUNT = 64;  // entries
    parameter int W = 16;      // bits of one value

    reg [55:0] groups [0:COUNT-1];
    reg [32*W-1:0] all_values [0:COUNT-1];
    reg [64*W-1:0] all_lanes [0:COUNT-1];

    reg [55:0] group;
    reg [32*W-1:0] values;
    wire [55:0] codes;
    wire [3:0] valid;
    wire [64*W-1:0] lanes;

    nm_unpack #(.COUNT(4), .WIDTH(14)) unpack (.group(group), .codes(codes));
    for (genvar b = 0; b < 4; b = b + 1) begin : g_block
        nm_decode_8_16 #(.W(W)) decode (
            .code(codes[b*14 +: 14]), .values(values[b*8*W +: 8*W]),
            .valid(valid[b]), .mask(), .lanes(lanes[b*16*W +: 16*W])
        );
    end

    localparam int BITS = 4 + 64*W;
    wire [BITS-1:0] got = {valid, lanes};
    reg [BITS-1:0] want;

    reg [8*512-1:0] file;
    int checked = 0, failed = 0, first = 0;
    reg [BITS-1:0] first_got = '0, first_want = '0;

    initial begin
        if ($value$plusargs("groups=%s", file)) $readmemh(file, groups);
        if ($value$plusargs("values=%s", file)) $readmemh(file, all_values);
        if ($value$plusargs("lanes=%s", file)) $readmemh(file, all_lanes);
        for (int i = 0; i < COUNT; i = i + 1) begin
            group  = groups[i];
            values = all_values[i];
            want   = {4'b1111, all_lanes[i]};
            #1;
            // An x in a vector (file missing or short) fails, whatever the module makes of it.
            if (got !== want || (^{group, values, want}) === 1'bx) begin
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
