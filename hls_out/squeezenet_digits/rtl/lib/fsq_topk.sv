// The K largest class sums of a frame, best first; of equal sums the lower class comes first.
//
// Parameters
//   CLASSES     sums of a frame, one a beat, class 0 first
//   SUM_BITS    bits of a signed sum
//   INDEX_BITS  bits of a class index in the output
//   K           results a frame, 1 to CLASSES
//
// Ports
//   clk, rst    clock; synchronous reset, active high, of the control state only (the next beat is class 0)
//   s_axis_*    input: one signed sum a beat
//   m_axis_*    output: tdata = {class index, sum}, the sum in the low SUM_BITS bits; tlast on the K-th result;
//               tdata, tlast and tvalid stay as they are while tvalid is high and tready low
//
// Throughput one sum a cycle; results are sent while the next frame is taken in, so the interval is CLASSES cycles. Latency two cycles from the
// last sum to the first result.
module fsq_topk #(
    parameter CLASSES = 10,
    parameter SUM_BITS = 32,
    parameter INDEX_BITS = 32,
    parameter K = 5
) (
    input  wire                           clk,
    input  wire                           rst,
    input  wire [SUM_BITS-1:0]            s_axis_tdata,
    input  wire                           s_axis_tvalid,
    output wire                           s_axis_tready,
    output wire [INDEX_BITS+SUM_BITS-1:0] m_axis_tdata,
    output wire                           m_axis_tvalid,
    input  wire                           m_axis_tready,
    output wire                           m_axis_tlast
);
    localparam CLASS_BITS = (CLASSES > 1) ? $clog2(CLASSES) : 1;
    localparam WIDTH = CLASS_BITS + SUM_BITS;
    localparam LEFT_BITS = $clog2(K + 1);

    initial begin : check_parameters
        if (CLASSES < 1) $fatal(1, "fsq_topk: CLASSES=%0d, 1 or more was expected", CLASSES);
        if (K < 1 || K > CLASSES) $fatal(1, "fsq_topk: K=%0d, 1 to CLASSES=%0d was expected", K, CLASSES);
        if (INDEX_BITS < CLASS_BITS) $fatal(1, "fsq_topk: INDEX_BITS=%0d, %0d or more was expected for %0d classes", INDEX_BITS, CLASS_BITS, CLASSES);
    end

    reg [CLASS_BITS-1:0] class_reg;
    reg [K*WIDTH-1:0]    best_reg;      // entry 0 is the best
    reg [K-1:0]          held_reg;      // which entries hold a sum
    reg                  complete_reg;  // best_reg holds a whole frame that waits to be sent
    reg [K*WIDTH-1:0]    send_reg;
    reg [LEFT_BITS-1:0]  left_reg;      // results still to send

    wire class_last = class_reg == (CLASSES - 1);
    wire send_free = left_reg == 0 || (left_reg == 1 && m_axis_tready);
    wire hand_over = complete_reg && send_free;
    wire step = s_axis_tvalid && s_axis_tready;
    wire pop = m_axis_tvalid && m_axis_tready;

    assign s_axis_tready = !complete_reg || send_free;
    assign m_axis_tvalid = left_reg != 0;
    assign m_axis_tlast = left_reg == 1;
    assign m_axis_tdata[SUM_BITS-1:0] = send_reg[SUM_BITS-1:0];
    generate
        if (INDEX_BITS > CLASS_BITS) begin : gen_index_extend
            assign m_axis_tdata[SUM_BITS +: INDEX_BITS] = {{(INDEX_BITS-CLASS_BITS){1'b0}}, send_reg[SUM_BITS +: CLASS_BITS]};
        end else begin : gen_index_exact
            assign m_axis_tdata[SUM_BITS +: INDEX_BITS] = send_reg[SUM_BITS +: CLASS_BITS];
        end
    endgenerate

    // Sorted insertion: a new sum goes in front of the first entry that is empty or smaller; equal entries, of lower classes, stay in front.
    wire [K*WIDTH-1:0] best_next;
    wire [K-1:0]       held_next;
    wire [K-1:0]       behind;  // entry i comes behind the new sum
    genvar i;
    generate
        for (i = 0; i < K; i = i + 1) begin : gen_entry
            wire held = held_reg[i] && !hand_over;
            assign behind[i] = !held || ($signed(s_axis_tdata) > $signed(best_reg[i*WIDTH +: SUM_BITS]));
            if (i == 0) begin : gen_best
                assign best_next[0 +: WIDTH] = behind[0] ? {class_reg, s_axis_tdata} : best_reg[0 +: WIDTH];
                assign held_next[0] = 1'b1;
            end else begin : gen_other
                assign best_next[i*WIDTH +: WIDTH] = !behind[i] ? best_reg[i*WIDTH +: WIDTH]
                                                   : behind[i-1] ? best_reg[(i-1)*WIDTH +: WIDTH]
                                                   : {class_reg, s_axis_tdata};
                assign held_next[i] = held || (held_reg[i-1] && !hand_over);
            end
        end
    endgenerate

    always_ff @(posedge clk) begin : control
        if (rst) begin
            class_reg <= {CLASS_BITS{1'b0}};
            held_reg <= {K{1'b0}};
            complete_reg <= 1'b0;
            left_reg <= {LEFT_BITS{1'b0}};
        end else begin
            if (step) class_reg <= class_last ? {CLASS_BITS{1'b0}} : class_reg + 1'b1;
            if (step) held_reg <= held_next;
            else if (hand_over) held_reg <= {K{1'b0}};
            if (step && class_last) complete_reg <= 1'b1;
            else if (hand_over) complete_reg <= 1'b0;
            if (hand_over) left_reg <= K;
            else if (pop) left_reg <= left_reg - 1'b1;
        end
    end

    always_ff @(posedge clk) begin : data
        if (step) best_reg <= best_next;
        if (hand_over) send_reg <= best_reg;
        else if (pop) send_reg <= send_reg >> WIDTH;
    end
endmodule
