// 8:16 block decoder, combinational, with the byte-split tables of SPEC annex B.2.
//
// code >= 12870 (SPEC 2.8, B.4): valid = 0, mask = 0, all lanes 0.
// Ports as in nm_lanes.sv; mask bit i = column i of the block is stored (SPEC 2.4).
`default_nettype none

module nm_decode_8_16 #(
    parameter int W = 16  // bits of one value
) (
    input  wire logic [13:0]     code,
    input  wire logic [8*W-1:0]  values,
    output wire logic            valid,
    output wire logic [15:0]     mask,
    output wire logic [16*W-1:0] lanes
);
    localparam logic [13:0] COUNT = 14'd12870;  // C(16, 8)

    function automatic logic [3:0] pop8(input logic [7:0] x);
        pop8 = 4'd0;
        for (int i = 0; i < 8; i = i + 1) pop8 = pop8 + {3'd0, x[i]};
    endfunction

    function automatic logic [6:0] choose8(input logic [3:0] k);  // C(8, k)
        case (k)
            4'd0, 4'd8: choose8 = 7'd1;
            4'd1, 4'd7: choose8 = 7'd8;
            4'd2, 4'd6: choose8 = 7'd28;
            4'd3, 4'd5: choose8 = 7'd56;
            4'd4:       choose8 = 7'd70;
            default:    choose8 = 7'd0;
        endcase
    endfunction

    // Loop variables stand outside the loops of the three tables: Icarus 11 takes no function call
    // inside `for (int ...)` of a constant function.

    // S[h] = number of masks whose high byte is below h; 14 bits, in words of 16 so that an index
    // is a concatenation and not a multiplication.
    function automatic logic [256*16-1:0] table_s();
        int h;
        logic [13:0] sum;
        sum = 14'd0;
        for (h = 0; h < 256; h = h + 1) begin
            table_s[h*16 +: 16] = {2'd0, sum};
            sum = sum + {7'd0, choose8(4'd8 - pop8(h[7:0]))};
        end
    endfunction

    // A[q] = where the bytes of q one bits begin in L8.
    function automatic logic [9*8-1:0] table_a();
        int q;
        logic [7:0] sum;
        sum = 8'd0;
        for (q = 0; q <= 8; q = q + 1) begin
            table_a[q*8 +: 8] = sum;
            sum = sum + {1'd0, choose8(q[3:0])};
        end
    endfunction

    // L8 = the 256 bytes by (pop, value): each byte goes to the next place of its pop.
    function automatic logic [256*8-1:0] table_l8();
        int x;
        logic [3:0] k;
        logic [9*8-1:0] next;
        next = table_a();
        for (x = 0; x < 256; x = x + 1) begin
            k = pop8(x[7:0]);
            table_l8[{next[{k, 3'd0} +: 8], 3'd0} +: 8] = x[7:0];
            next[{k, 3'd0} +: 8] = next[{k, 3'd0} +: 8] + 8'd1;
        end
    endfunction

    localparam logic [256*16-1:0] S  = table_s();
    localparam logic [256*8-1:0]  L8 = table_l8();
    localparam logic [9*8-1:0]    A  = table_a();

    // high = the largest h with S[h] <= code: 8 comparisons by bisection, one bit of h each.
    for (genvar b = 7; b >= 0; b = b - 1) begin : g_bit
        wire logic [7:0] so_far;
        if (b == 7) begin : g_first
            assign so_far = 8'd0;
        end else begin : g_next
            assign so_far = g_bit[b+1].found;
        end
        wire logic [7:0] trial = so_far | (8'd1 << b);
        wire logic [7:0] found = S[{trial, 4'd0} +: 14] <= code ? trial : so_far;
    end

    wire logic [7:0] high   = g_bit[0].found;
    wire logic [3:0] q      = 4'd8 - pop8(high);        // one bits of the low byte
    wire logic [7:0] offset = 8'(code - S[{high, 4'd0} +: 14]);  // rank of the low byte, 0 ... 69
    wire logic [7:0] index  = A[{q, 3'd0} +: 8] + offset;
    wire logic [7:0] low    = L8[{index, 3'd0} +: 8];

    assign valid = code < COUNT;
    assign mask  = valid ? {high, low} : 16'd0;

    nm_lanes #(.N(8), .M(16), .W(W)) u_lanes (.mask(mask), .values(values), .lanes(lanes));
endmodule

`default_nettype wire
