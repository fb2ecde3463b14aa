// One module for each row of RESULTS.md, with fixed parameters and the ports of its bench: decoders
// (code, valid, mask), movers (mask or metadata, from, to).
`default_nettype none

module top_2_4_table (
    input  wire logic [2:0] code,
    output wire logic       valid,
    output wire logic [3:0] mask
);
    nm_decode_2_4 #(.W(1)) u (.code(code), .values(2'd0), .valid(valid), .mask(mask), .lanes());
endmodule

module top_4_8_steps (
    input  wire logic [6:0] code,
    output wire logic       valid,
    output wire logic [7:0] mask
);
    wire logic [7:0] taken;
    nm_steps #(.N(4), .M(8), .CW(7)) u (.code(code), .taken(taken), .rest(), .left());
    assign valid = code < 7'd70;  // C(8, 4)
    assign mask  = valid ? taken : 8'd0;
endmodule

module top_8_16_steps (
    input  wire logic [13:0] code,
    output wire logic        valid,
    output wire logic [15:0] mask
);
    wire logic [15:0] taken;
    nm_steps #(.N(8), .M(16), .CW(14)) u (.code(code), .taken(taken), .rest(), .left());
    assign valid = code < 14'd12870;  // C(16, 8)
    assign mask  = valid ? taken : 16'd0;
endmodule

// The byte-split decoder of conformance/clients/sv without its lanes.
module top_8_16_bisect (
    input  wire logic [13:0] code,
    output wire logic        valid,
    output wire logic [15:0] mask
);
    nm_decode_8_16 #(.W(1)) u (.code(code), .values(8'd0), .valid(valid), .mask(mask), .lanes());
endmodule

module top_gather_8_16 (
    input  wire logic [15:0]  mask,
    input  wire logic [255:0] from,
    output wire logic [127:0] to
);
    nm_gather #(.N(8), .M(16), .W(16)) u (.mask(mask), .operands(from), .gathered(to));
endmodule

module top_gather_8_16_byte (
    input  wire logic [15:0]  mask,
    input  wire logic [127:0] from,
    output wire logic [63:0]  to
);
    nm_gather #(.N(8), .M(16), .W(8)) u (.mask(mask), .operands(from), .gathered(to));
endmodule

module top_compact_8_16 (
    input  wire logic [15:0]  mask,
    input  wire logic [255:0] from,
    output wire logic [127:0] to
);
    nm_compact #(.N(8), .M(16), .W(16)) u (.mask(mask), .operands(from), .gathered(to));
endmodule

module top_gather_4_8 (
    input  wire logic [7:0]   mask,
    input  wire logic [127:0] from,
    output wire logic [63:0]  to
);
    nm_gather #(.N(4), .M(8), .W(16)) u (.mask(mask), .operands(from), .gathered(to));
endmodule

module top_gather_2_4 (
    input  wire logic [3:0]  mask,
    input  wire logic [63:0] from,
    output wire logic [31:0] to
);
    nm_gather #(.N(2), .M(4), .W(16)) u (.mask(mask), .operands(from), .gathered(to));
endmodule

module top_gather_2_4_meta (
    input  wire logic [3:0]  meta,
    input  wire logic [63:0] from,
    output wire logic [31:0] to
);
    nm_gather_2_4_meta #(.W(16)) u (.meta(meta), .operands(from), .gathered(to));
endmodule

module top_gather_2_4_meta_byte (
    input  wire logic [3:0]  meta,
    input  wire logic [31:0] from,
    output wire logic [15:0] to
);
    nm_gather_2_4_meta #(.W(8)) u (.meta(meta), .operands(from), .gathered(to));
endmodule

module top_spread_8_16 (
    input  wire logic [15:0]  mask,
    input  wire logic [127:0] from,
    output wire logic [255:0] to
);
    nm_lanes #(.N(8), .M(16), .W(16)) u (.mask(mask), .values(from), .lanes(to));
endmodule

module top_spread_2_4 (
    input  wire logic [3:0]  mask,
    input  wire logic [31:0] from,
    output wire logic [63:0] to
);
    nm_lanes #(.N(2), .M(4), .W(16)) u (.mask(mask), .values(from), .lanes(to));
endmodule

// For scale only: what a stored weight is multiplied with an activation by.
module top_multiply_8 (
    input  wire logic signed [7:0]  a,
    input  wire logic signed [7:0]  b,
    output wire logic signed [15:0] product
);
    assign product = a * b;
endmodule

`default_nettype wire
