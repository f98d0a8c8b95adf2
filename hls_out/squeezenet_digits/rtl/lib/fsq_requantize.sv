// Requantizer of one channel: clamp(round_half_even(acc * 2^-shift), lowest, highest) of the output format, with shift = SHIFT_MIN + offset.
//
// Parameters
//   ACC_BITS    bits of the accumulator, two's complement
//   SHIFT_MIN   smallest shift; negative shifts are exact left shifts
//   SHIFT_MAX   largest shift; SHIFT_MAX = SHIFT_MIN leaves `offset` unread
//   OUT_BITS    bits of the result
//   OUT_SIGNED  1: two's complement result, 0: unsigned (clamping at 0 is the ReLU)
//
// Ports
//   clk     clock; the pipeline runs freely and has no reset
//   acc     accumulator
//   offset  shift - SHIFT_MIN, of max(1, bit length of SHIFT_MAX - SHIFT_MIN) bits
//   result  the activation
//
// Throughput one value a cycle. Latency 3 cycles.
module fsq_requantize #(
    parameter ACC_BITS = 24,
    parameter SHIFT_MIN = 0,
    parameter SHIFT_MAX = 7,
    parameter OUT_BITS = 8,
    parameter OUT_SIGNED = 0,
    parameter OFFSET_BITS = (SHIFT_MAX > SHIFT_MIN) ? $clog2(SHIFT_MAX - SHIFT_MIN + 1) : 1  // derived: leave as it is
) (
    input  wire                       clk,
    input  wire signed [ACC_BITS-1:0] acc,
    input  wire [OFFSET_BITS-1:0]     offset,
    output wire [OUT_BITS-1:0]        result
);
    // A negative SHIFT_MIN is applied first, as an exact left shift; what is left to do is then a right shift by BASE + offset.
    localparam BEFORE = (SHIFT_MIN < 0) ? -SHIFT_MIN : 0;
    localparam BASE = (SHIFT_MIN > 0) ? SHIFT_MIN : 0;
    localparam RIGHT_MAX = BASE + SHIFT_MAX - SHIFT_MIN;
    localparam VALUE_BITS = ACC_BITS + BEFORE;
    // One bit more than both the value and the largest rounding term, so that their sum is exact and every shift names an existing bit.
    localparam WIDE_BITS = ((VALUE_BITS > RIGHT_MAX + 1) ? VALUE_BITS : RIGHT_MAX + 1) + 1;
    localparam CLAMP_BITS = ((WIDE_BITS > OUT_BITS + 1) ? WIDE_BITS : OUT_BITS + 1) + 1;
    localparam signed [CLAMP_BITS-1:0] ONE = 1;
    localparam signed [CLAMP_BITS-1:0] HIGHEST = (ONE <<< (OUT_BITS - ((OUT_SIGNED != 0) ? 1 : 0))) - ONE;
    localparam signed [CLAMP_BITS-1:0] LOWEST = (OUT_SIGNED != 0) ? -(ONE <<< (OUT_BITS - 1)) : 0;

    initial begin : check_parameters
        if (ACC_BITS < 1) $fatal(1, "fsq_requantize: ACC_BITS=%0d, 1 or more was expected", ACC_BITS);
        if (SHIFT_MAX < SHIFT_MIN) $fatal(1, "fsq_requantize: SHIFT_MAX=%0d, SHIFT_MIN=%0d or more was expected", SHIFT_MAX, SHIFT_MIN);
        if (OUT_BITS < 2 || OUT_BITS > 16) $fatal(1, "fsq_requantize: OUT_BITS=%0d, 2 to 16 was expected", OUT_BITS);
    end

    // Shifting by BASE is wiring, by `more` a multiplexer tree over the few values it has.
    wire [OFFSET_BITS-1:0]      more;
    wire signed [WIDE_BITS-1:0] value;
    generate
        if (SHIFT_MAX > SHIFT_MIN) begin : gen_variable
            assign more = offset;
        end else begin : gen_constant
            assign more = {OFFSET_BITS{1'b0}};
        end
        if (BEFORE > 0) begin : gen_before
            assign value = {{(WIDE_BITS - VALUE_BITS){acc[ACC_BITS-1]}}, acc, {BEFORE{1'b0}}};
        end else begin : gen_as_is
            assign value = {{(WIDE_BITS - VALUE_BITS){acc[ACC_BITS-1]}}, acc};
        end
    endgenerate

    // Half to even: add 2^(s-1) - 1 and the bit that becomes the lowest one, then shift. Both terms vanish for s = 0.
    wire [WIDE_BITS-1:0] ones = {WIDE_BITS{1'b1}};
    wire [WIDE_BITS-1:0] below = ~((ones << BASE) << more);
    wire [WIDE_BITS-1:0] half_less_one = below >> 1;
    wire [WIDE_BITS-1:0] at_point = (value >> BASE) >> more;
    wire                 tie = at_point[0] && (BASE != 0 || more != {OFFSET_BITS{1'b0}});

    reg signed [WIDE_BITS-1:0] rounded_reg;
    reg [OFFSET_BITS-1:0]      more_reg;
    reg signed [WIDE_BITS-1:0] shifted_reg;
    reg [OUT_BITS-1:0]         result_reg;

    wire signed [CLAMP_BITS-1:0] wide = {{(CLAMP_BITS - WIDE_BITS){shifted_reg[WIDE_BITS-1]}}, shifted_reg};

    always_ff @(posedge clk) begin : pipeline
        rounded_reg <= value + half_less_one + {{(WIDE_BITS-1){1'b0}}, tie};
        more_reg <= more;
        shifted_reg <= (rounded_reg >>> BASE) >>> more_reg;
        result_reg <= (wide > HIGHEST) ? HIGHEST[OUT_BITS-1:0] : (wide < LOWEST) ? LOWEST[OUT_BITS-1:0] : wide[OUT_BITS-1:0];
    end

    assign result = result_reg;
endmodule
