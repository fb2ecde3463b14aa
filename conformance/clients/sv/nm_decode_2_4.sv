// 2:4 block decoder, combinational: the six masks of SPEC A.5.
//
// code 6 or 7 (SPEC 2.8): valid = 0, mask = 0, all lanes 0.
// Ports as in nm_lanes.sv; mask bit i = column i of the block is stored (SPEC 2.4).
`default_nettype none

module nm_decode_2_4 #(
    parameter int W = 16  // bits of one value
) (
    input  wire logic [2:0]     code,
    input  wire logic [2*W-1:0] values,
    output wire logic           valid,
    output wire logic [3:0]     mask,
    output wire logic [4*W-1:0] lanes
);
    function automatic logic [3:0] mask_of(input logic [2:0] c);
        case (c)
            3'd0:    mask_of = 4'b0011;
            3'd1:    mask_of = 4'b0101;
            3'd2:    mask_of = 4'b0110;
            3'd3:    mask_of = 4'b1001;
            3'd4:    mask_of = 4'b1010;
            3'd5:    mask_of = 4'b1100;
            default: mask_of = 4'b0000;
        endcase
    endfunction

    assign valid = code < 3'd6;  // C(4, 2)
    assign mask  = mask_of(code);

    nm_lanes #(.N(2), .M(4), .W(W)) u_lanes (.mask(mask), .values(values), .lanes(lanes));
endmodule

`default_nettype wire
