// Adds two streams beat by beat: requantize((a << ALIGN_A) + (b << ALIGN_B), SHIFT), the bypass of a residual connection.
//
// The sum is exact. SHIFT >= 1 rounds half to even, (sum + 2^(SHIFT-1) - 1 + sum[SHIFT]) >> SHIFT; 0 passes; SHIFT < 0 shifts left exactly.
// The result saturates at the limits of the output format.
//
// Parameters
//   LANES                 values a beat carries
//   A_BITS, A_SIGNED      format of a: bits, 1 for two's complement
//   B_BITS, B_SIGNED      format of b
//   ALIGN_A, ALIGN_B      left shifts to the common fraction, 0 or more
//   SHIFT                 right shift to the output's fraction, negative for left
//   OUT_BITS, OUT_SIGNED  output format; unsigned rectifies
//
// Ports
//   clk, rst              clock; synchronous reset, active high, of the control state only (beats under way are dropped)
//   s_axis_a_*, s_axis_b_*  inputs; a beat of each is taken in the same cycle
//   m_axis_*              output; tdata and tvalid stay as they are while tvalid is high and tready low
//
// Throughput one beat a cycle. Latency two cycles. Both tready depend on the other input's tvalid and on m_axis_tready combinationally.
module fsq_adder #(
    parameter LANES = 4,
    parameter A_BITS = 8,
    parameter A_SIGNED = 0,
    parameter B_BITS = 8,
    parameter B_SIGNED = 0,
    parameter ALIGN_A = 0,
    parameter ALIGN_B = 0,
    parameter SHIFT = 1,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 0
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire [LANES*A_BITS-1:0]   s_axis_a_tdata,
    input  wire                      s_axis_a_tvalid,
    output wire                      s_axis_a_tready,
    input  wire [LANES*B_BITS-1:0]   s_axis_b_tdata,
    input  wire                      s_axis_b_tvalid,
    output wire                      s_axis_b_tready,
    output wire [LANES*OUT_BITS-1:0] m_axis_tdata,
    output wire                      m_axis_tvalid,
    input  wire                      m_axis_tready
);
    // Widths as signed numbers: the aligned inputs, their sum, the sum with rounding added, the value that is clamped.
    localparam A_WIDE = A_BITS + ((A_SIGNED != 0) ? 0 : 1) + ALIGN_A;
    localparam B_WIDE = B_BITS + ((B_SIGNED != 0) ? 0 : 1) + ALIGN_B;
    localparam SUM_BITS = ((A_WIDE > B_WIDE) ? A_WIDE : B_WIDE) + 1;
    localparam RIGHT = (SHIFT > 0) ? SHIFT : 0;
    localparam LEFT = (SHIFT < 0) ? -SHIFT : 0;
    localparam ROUNDED_BITS = ((SUM_BITS > RIGHT) ? SUM_BITS : RIGHT + 1) + 1;
    localparam LIMIT_BITS = OUT_BITS + 1;
    localparam WIDE_BITS = (ROUNDED_BITS + LEFT > LIMIT_BITS) ? ROUNDED_BITS + LEFT : LIMIT_BITS;
    localparam signed [WIDE_BITS-1:0] ONE = 1;
    localparam signed [WIDE_BITS-1:0] MAXIMUM = (ONE <<< ((OUT_SIGNED != 0) ? OUT_BITS - 1 : OUT_BITS)) - ONE;
    localparam signed [WIDE_BITS-1:0] MINIMUM = (OUT_SIGNED != 0) ? -(ONE <<< (OUT_BITS - 1)) : {WIDE_BITS{1'b0}};
    localparam signed [ROUNDED_BITS-1:0] ROUNDED_ONE = 1;
    localparam signed [ROUNDED_BITS-1:0] HALF_LESS_ONE = (RIGHT > 0) ? (ROUNDED_ONE <<< ((RIGHT > 0) ? RIGHT - 1 : 0)) - ROUNDED_ONE : {ROUNDED_BITS{1'b0}};

    initial begin : check_parameters
        if (LANES < 1) $fatal(1, "fsq_adder: LANES=%0d, 1 or more was expected", LANES);
        if (A_BITS < 1 || B_BITS < 1 || OUT_BITS < 1) $fatal(1, "fsq_adder: A_BITS=%0d B_BITS=%0d OUT_BITS=%0d, 1 or more was expected", A_BITS, B_BITS, OUT_BITS);
        if (ALIGN_A < 0 || ALIGN_B < 0) $fatal(1, "fsq_adder: ALIGN_A=%0d ALIGN_B=%0d, 0 or more was expected", ALIGN_A, ALIGN_B);
        if (SHIFT > 48 || SHIFT < -48) $fatal(1, "fsq_adder: SHIFT=%0d, -48 to 48 was expected", SHIFT);
    end

    reg  sum_valid_reg;
    reg  out_valid_reg;
    wire out_ready = !out_valid_reg || m_axis_tready;
    wire sum_ready = !sum_valid_reg || out_ready;

    assign s_axis_a_tready = sum_ready && s_axis_b_tvalid;
    assign s_axis_b_tready = sum_ready && s_axis_a_tvalid;
    assign m_axis_tvalid = out_valid_reg;

    always_ff @(posedge clk) begin : control
        if (rst) begin
            sum_valid_reg <= 1'b0;
            out_valid_reg <= 1'b0;
        end else begin
            if (sum_ready) sum_valid_reg <= s_axis_a_tvalid && s_axis_b_tvalid;
            if (out_ready) out_valid_reg <= sum_valid_reg;
        end
    end

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : gen_lane
            wire [A_BITS-1:0] a = s_axis_a_tdata[lane*A_BITS +: A_BITS];
            wire [B_BITS-1:0] b = s_axis_b_tdata[lane*B_BITS +: B_BITS];
            wire a_sign = (A_SIGNED != 0) ? a[A_BITS-1] : 1'b0;
            wire b_sign = (B_SIGNED != 0) ? b[B_BITS-1] : 1'b0;
            wire signed [SUM_BITS-1:0] a_wide = {{(SUM_BITS-A_BITS){a_sign}}, a};
            wire signed [SUM_BITS-1:0] b_wide = {{(SUM_BITS-B_BITS){b_sign}}, b};
            reg  signed [SUM_BITS-1:0] sum_reg;
            reg  [OUT_BITS-1:0]        out_reg;

            wire signed [ROUNDED_BITS-1:0] extended = {{(ROUNDED_BITS-SUM_BITS){sum_reg[SUM_BITS-1]}}, sum_reg};
            wire                           odd = (RIGHT > 0) ? extended[RIGHT] : 1'b0;
            wire signed [ROUNDED_BITS-1:0] tie = {{(ROUNDED_BITS-1){1'b0}}, odd};
            wire signed [ROUNDED_BITS-1:0] biased = extended + HALF_LESS_ONE + tie;
            wire signed [ROUNDED_BITS-1:0] rounded = biased >>> RIGHT;
            wire signed [WIDE_BITS-1:0]    scaled;
            if (WIDE_BITS > ROUNDED_BITS) begin : gen_extend
                assign scaled = $signed({{(WIDE_BITS-ROUNDED_BITS){rounded[ROUNDED_BITS-1]}}, rounded}) <<< LEFT;
            end else begin : gen_exact
                assign scaled = rounded;
            end
            wire signed [WIDE_BITS-1:0] clamped = (scaled > MAXIMUM) ? MAXIMUM : (scaled < MINIMUM) ? MINIMUM : scaled;

            always_ff @(posedge clk) begin : data
                if (sum_ready) sum_reg <= (a_wide <<< ALIGN_A) + (b_wide <<< ALIGN_B);
                if (out_ready) out_reg <= clamped[OUT_BITS-1:0];
            end
            assign m_axis_tdata[lane*OUT_BITS +: OUT_BITS] = out_reg;
        end
    endgenerate
endmodule
