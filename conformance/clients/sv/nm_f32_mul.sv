// p = RN32(a * b) (SPEC 1.7, 8.2), combinational: subnormals kept, every NaN 0x7FC00000.
//
// The operands are the upper W bits of binary32 numbers: W = 32 is F32, W = 16 is BF16.  Products of
// BF16 need rounding only below the normal numbers (SPEC 8.16); the logic is the same.
`default_nettype none

module nm_f32_mul #(
    parameter int W = 16  // bits of an operand: 16 (BF16) or 32 (F32)
) (
    input  wire logic [W-1:0] a,
    input  wire logic [W-1:0] b,
    output wire logic [31:0]  p
);
    localparam int S = W - 8;               // significand with its leading one
    localparam int P = 2 * S;               // product of two significands
    localparam int X = P > 26 ? P : 26;     // the product, and at least 24 bits, guard and one more
    localparam int LW = $clog2(P + 1);

    // Leading zeros; P for 0.
    function automatic logic [LW-1:0] zeros(input logic [P-1:0] v);
        zeros = LW'(P);
        for (int i = 0; i < P; i = i + 1) if (v[i]) zeros = LW'(P - 1 - i);
    endfunction

    wire logic [7:0]   ea = a[W-2 -: 8];
    wire logic [7:0]   eb = b[W-2 -: 8];
    wire logic         sign = a[W-1] ^ b[W-1];
    wire logic         a_zero = a[W-2:0] == '0;
    wire logic         b_zero = b[W-2:0] == '0;
    wire logic         a_top = ea == 8'hff;  // infinity or NaN
    wire logic         b_top = eb == 8'hff;
    wire logic         is_nan = (a_top && a[S-2:0] != '0) || (b_top && b[S-2:0] != '0)
                             || (a_top && b_zero) || (b_top && a_zero);

    // Leading one of the product to the top.  Subnormal operands have the exponent field 1 and no
    // leading one, so any number of zeros may stand above it.
    wire logic [S-1:0] ma = {ea != 8'd0, a[S-2:0]};
    wire logic [S-1:0] mb = {eb != 8'd0, b[S-2:0]};
    wire logic [P-1:0] product = P'(ma) * P'(mb);
    wire logic [LW-1:0] lead = zeros(product);
    wire logic [P-1:0] top = product << lead;
    wire logic [X-1:0] full = {top, {(X-P){1'b0}}};

    // Exponent field of the result; below 1 the result is subnormal and moves right.
    wire logic signed [10:0] e = $signed({3'd0, ea}) + $signed({10'd0, ea == 8'd0})
                               + $signed({3'd0, eb}) + $signed({10'd0, eb == 8'd0})
                               - 11'sd126 - $signed(11'(lead));
    wire logic         normal = e >= 11'sd1;
    wire logic [10:0]  below = 11'(11'sd1 - e);
    wire logic [5:0]   move = normal ? 6'd0 : below > 11'd63 ? 6'd63 : below[5:0];
    wire logic [X-1:0] moved = full >> move;
    wire logic         lost = (full & ~({X{1'b1}} << move)) != '0;

    // To nearest, ties to even.  The carry of the increment goes into the exponent by itself: from
    // the largest subnormal to the smallest normal number, and from the largest number to infinity.
    wire logic         guard = moved[X-25];
    wire logic         sticky = moved[X-26:0] != '0 || lost;
    wire logic         up = guard && (sticky || moved[X-24]);
    wire logic [30:0]  rounded = {normal ? e[7:0] : 8'd0, moved[X-2 -: 23]} + 31'(up);

    assign p = is_nan                               ? 32'h7fc00000
             : a_top || b_top || e >= 11'sd255      ? {sign, 8'hff, 23'd0}
             : a_zero || b_zero                     ? {sign, 31'd0}
             :                                        {sign, rounded};
endmodule

`default_nettype wire
