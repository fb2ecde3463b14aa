// Dot of the profile f32.seq (SPEC 8.8), one term a clock.
//
//     acc = +0; for each term: acc = RN32(acc + RN32(w * x)); out = acc
//
// A clock with in_valid takes one pair (w, x): in_first starts a dot, in_last ends it, both may hold.
// A zero w makes no term, whatever x is (SPEC 8.3).  Two clocks after in_last, for one clock, out_valid
// is 1 and out is the canonical result (SPEC 8.4).  Clocks without in_valid change nothing.
`default_nettype none

module nm_mac_f32_seq #(
    parameter int W = 16  // bits of an operand: 16 (BF16) or 32 (F32)
) (
    input  wire logic         clk,
    input  wire logic         rst,       // synchronous
    input  wire logic         in_valid,
    input  wire logic         in_first,
    input  wire logic         in_last,
    input  wire logic [W-1:0] w,
    input  wire logic [W-1:0] x,
    output wire logic         out_valid,
    output wire logic [31:0]  out
);
    // First clock: the product.
    wire logic [31:0] product;
    nm_f32_mul #(.W(W)) u_mul (.a(w), .b(x), .p(product));

    logic        p_valid, p_first, p_last, p_term;
    logic [31:0] p;

    always_ff @(posedge clk) begin
        p_valid <= in_valid && !rst;
        p_first <= in_first;
        p_last  <= in_last;
        p_term  <= w[W-2:0] != '0;
        p       <= product;
    end

    // Second clock: the sum, which the next one needs.
    logic        done;
    logic [31:0] acc;

    wire logic [31:0] start = p_first ? 32'd0 : acc;
    wire logic [31:0] sum;
    nm_f32_add u_add (.a(start), .b(p), .sum(sum));

    always_ff @(posedge clk) begin
        done <= p_valid && p_last && !rst;
        if (p_valid) acc <= p_term ? sum : start;
    end

    assign out_valid = done;
    assign out       = acc;  // never -0: it starts as +0, and a sum that is zero is +0 then
endmodule

`default_nettype wire
