// nm_decode_8_16 against vectors; nm_unrank_8_16_serial must give the same valid and mask.
//
// vvp ... +codes=FILE +values=FILE +masks=FILE +lanes=FILE (README.md).  A wanted mask of 0 means
// an invalid code.
module tb_nm_decode_8_16;
    parameter int COUNT = 16384;  // entries
    parameter int W = 16;  // bits of one value

    reg [13:0] codes [0:COUNT-1];
    reg [8*W-1:0] all_values [0:COUNT-1];
    reg [15:0] masks [0:COUNT-1];
    reg [16*W-1:0] all_lanes [0:COUNT-1];

    reg [13:0] code;
    reg [8*W-1:0] values;
    wire valid;
    wire [15:0] mask;
    wire [16*W-1:0] lanes;

    nm_decode_8_16 #(.W(W)) dut (
        .code(code), .values(values), .valid(valid), .mask(mask), .lanes(lanes)
    );

    wire serial_valid;
    wire [15:0] serial_mask;
    nm_unrank_8_16_serial serial (.code(code), .valid(serial_valid), .mask(serial_mask));

    // One hexadecimal digit for valid, then the mask; first of the serial decoder.
    localparam int BITS = 2*(4 + 16) + 16*W;
    wire [BITS-1:0] got = {3'd0, serial_valid, serial_mask, 3'd0, valid, mask, lanes};
    reg [BITS-1:0] want;

    reg [8*512-1:0] file;
    int checked = 0, failed = 0, first = 0;
    reg [BITS-1:0] first_got = '0, first_want = '0;

    initial begin
        if ($value$plusargs("codes=%s", file)) $readmemh(file, codes);
        if ($value$plusargs("values=%s", file)) $readmemh(file, all_values);
        if ($value$plusargs("masks=%s", file)) $readmemh(file, masks);
        if ($value$plusargs("lanes=%s", file)) $readmemh(file, all_lanes);
        for (int i = 0; i < COUNT; i = i + 1) begin
            code   = codes[i];
            values = all_values[i];
            want   = {{2{3'd0, masks[i] != 16'd0, masks[i]}}, all_lanes[i]};
            #1;
            // An x in a vector (file missing or short) fails, whatever the module makes of it.
            if (got !== want || (^{code, values, want}) === 1'bx) begin
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
