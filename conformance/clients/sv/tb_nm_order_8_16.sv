// Both 8:16 decoders against the definition of a code (SPEC 2.5), for all 16,384 codes; no vectors.
//
// The code of a mask is the number of smaller masks: going up through all 16-bit integers, the
// masks with eight one bits have the codes 0, 1, 2, ... 12869.  The codes above are invalid.
module tb_nm_order_8_16;
    localparam int BITS = 2*(4 + 16);  // one hexadecimal digit for valid, then the mask, twice

    reg [13:0] code;
    wire valid, serial_valid;
    wire [15:0] mask, serial_mask;

    nm_decode_8_16 #(.W(16)) dut (
        .code(code), .values(128'd0), .valid(valid), .mask(mask), .lanes()
    );
    nm_unrank_8_16_serial serial (.code(code), .valid(serial_valid), .mask(serial_mask));

    wire [BITS-1:0] got = {3'd0, serial_valid, serial_mask, 3'd0, valid, mask};
    int checked = 0, failed = 0, first = 0;
    reg [BITS-1:0] first_got = '0, first_want = '0;

    task check(input [19:0] want);
        begin
            code = checked[13:0];
            #1;
            if (got !== {2{want}}) begin
                if (failed == 0) begin
                    first      = checked;
                    first_got  = got;
                    first_want = {2{want}};
                end
                failed = failed + 1;
            end
            checked = checked + 1;
        end
    endtask

    initial begin
        for (int m = 0; m < 65536; m = m + 1)
            if ($countones(m[15:0]) == 8) check({4'd1, m[15:0]});
        while (checked < 16384) check(20'd0);
        if (failed != 0) $fatal(0, "not the order of SPEC 2.5");
        $finish;
    end

    final
        if (failed == 0 && checked == 16384) $display("PASS %0d", checked);
        else $display("FAIL %0d first %0d got %h want %h", failed, first, first_got, first_want);
endmodule
