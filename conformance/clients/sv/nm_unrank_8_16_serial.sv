// 8:16 code to mask by the 16 compare-and-subtract steps of SPEC annex B.3, unrolled, combinational.
//
// Same code, valid and mask as nm_decode_8_16.sv, without tables of bytes.
`default_nettype none

module nm_unrank_8_16_serial (
    input  wire logic [13:0] code,
    output wire logic        valid,
    output wire logic [15:0] mask
);
    localparam int M = 16;
    localparam int N = 8;

    // C(p, j) at [(p*(N+1) + j)*16 +: 16], by additions (SPEC 2.13); 14 bits are used.
    function automatic logic [M*(N+1)*16-1:0] table_c();
        for (int p = 0; p < M; p = p + 1)
            for (int j = 0; j <= N; j = j + 1)
                if (j == 0) table_c[p*(N+1)*16 +: 16] = 16'd1;
                else if (p == 0) table_c[j*16 +: 16] = 16'd0;
                else
                    table_c[(p*(N+1) + j)*16 +: 16] = table_c[((p-1)*(N+1) + j-1)*16 +: 16]
                                                    + table_c[((p-1)*(N+1) + j)*16 +: 16];
    endfunction

    localparam logic [M*(N+1)*16-1:0] C = table_c();

    // One row of the table: C(p, 0) ... C(p, N), for the constant p of one step.
    for (genvar p = M - 1; p >= 0; p = p - 1) begin : g_step
        localparam logic [(N+1)*16-1:0] ROW = C[p*(N+1)*16 +: (N+1)*16];
        wire logic [13:0] rest;
        wire logic [3:0]  j;  // stored positions still to place
        if (p == M - 1) begin : g_first
            assign rest = code;
            assign j    = 4'(N);
        end else begin : g_next
            assign rest = g_step[p+1].take ? g_step[p+1].rest - g_step[p+1].below
                                           : g_step[p+1].rest;
            assign j    = g_step[p+1].j - {3'd0, g_step[p+1].take};
        end
        wire logic [13:0] below = ROW[{j, 4'd0} +: 14];  // masks with the highest position below p
        wire logic        take  = j != 4'd0 && rest >= below;
        assign mask[p] = valid && take;
    end

    assign valid = code < 14'd12870;  // C(16, 8); the steps presuppose it
endmodule

`default_nettype wire
