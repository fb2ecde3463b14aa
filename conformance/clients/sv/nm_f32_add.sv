// sum = RN32(a + b) (SPEC 1.7, 8.2), combinational: subnormals kept, every NaN 0x7FC00000.
`default_nettype none

module nm_f32_add (
    input  wire logic [31:0] a,
    input  wire logic [31:0] b,
    output wire logic [31:0] sum
);
    // Leading zeros; 27 for 0.
    function automatic logic [4:0] zeros(input logic [26:0] v);
        zeros = 5'd27;
        for (int i = 0; i < 27; i = i + 1) if (v[i]) zeros = 5'(26 - i);
    endfunction

    wire logic        a_top = a[30:23] == 8'hff;  // infinity or NaN
    wire logic        b_top = b[30:23] == 8'hff;
    wire logic        is_nan = (a_top && a[22:0] != '0) || (b_top && b[22:0] != '0)
                            || (a_top && b_top && a[31] != b[31]);

    // The larger magnitude first.  The exponent field of a subnormal number counts as 1.
    wire logic        swap = b[30:0] > a[30:0];
    wire logic        sign = swap ? b[31] : a[31];
    wire logic [30:0] big = swap ? b[30:0] : a[30:0];
    wire logic [30:0] little = swap ? a[30:0] : b[30:0];
    wire logic [7:0]  e_big = big[30:23] | 8'(big[30:23] == 8'd0);
    wire logic [7:0]  e_little = little[30:23] | 8'(little[30:23] == 8'd0);
    wire logic [23:0] m_big = {big[30:23] != 8'd0, big[22:0]};
    wire logic [23:0] m_little = {little[30:23] != 8'd0, little[22:0]};

    // The smaller one to the place of the larger, with two bits below it and the sticky bit, which
    // is 1 if anything was shifted out.  Two bits suffice: where the shift is 2 or more, a difference
    // loses at most one leading bit.
    wire logic [7:0]  apart = e_big - e_little;
    wire logic [4:0]  move = apart > 8'd26 ? 5'd26 : apart[4:0];
    wire logic [25:0] full = {m_little, 2'd0};
    wire logic        sticky = (full & ~(26'h3ffffff << move)) != '0;
    wire logic [26:0] aligned = {full >> move, sticky};
    wire logic        subtract = a[31] != b[31];
    wire logic [27:0] total = subtract ? {1'b0, m_big, 3'd0} - {1'b0, aligned}
                                       : {1'b0, m_big, 3'd0} + {1'b0, aligned};

    // Leading one to bit 26, but the exponent not below 1: then the result is subnormal, and exact.
    wire logic [4:0]  lead = zeros(total[26:0]);
    wire logic [7:0]  room = e_big - 8'd1;
    wire logic [4:0]  left = 8'(lead) > room ? room[4:0] : lead;
    wire logic [26:0] norm = total[27] ? {total[27:2], total[1] | total[0]} : total[26:0] << left;
    wire logic [7:0]  e = total[27] ? e_big + 8'd1 : e_big - 8'(left);

    // To nearest, ties to even; the carry goes into the exponent, up to infinity.
    wire logic        up = norm[2] && (norm[1] || norm[0] || norm[3]);
    wire logic [30:0] rounded = {norm[26] ? e : 8'd0, norm[25:3]} + 31'(up);

    assign sum = is_nan                   ? 32'h7fc00000
               : a_top                    ? a
               : b_top                    ? b
               : total == '0              ? {a[31] & b[31], 31'd0}
               : norm[26] && e == 8'hff   ? {sign, 8'hff, 23'd0}
               :                            {sign, rounded};
endmodule

`default_nettype wire
