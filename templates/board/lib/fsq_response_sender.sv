// Answers every verdict of fsq_frame_receiver with one fixed block of bytes.
//
// An answer: 73 71 ("sq"), the frame's tag, the status, the best class (2 bytes), its sum (SUM_BYTES bytes, two's complement), all low byte first,
// and the CRC-16 of everything from the tag on (fsq_crc16, high byte first). With a status other than 0 class and sum are all ones and zero.
//
// Parameters
//   SUM_BYTES  bytes of a class sum
//
// Ports
//   clk, rst    clock; synchronous reset, active high
//   verdict_*   {machine, tag, status}
//   result_*    the machine's answer to every frame that went there: {class, sum}
//   m_axis_*    bytes for fsq_uart_tx
//   class_index class of the last good frame (0 after reset)
//   answered    high for one cycle with each answer
//   failed      with answered: the status was not 0
//
// A result whose frame went wrong is taken and dropped. Throughput 10 + SUM_BYTES bytes an answer.
module fsq_response_sender #(
    parameter SUM_BYTES = 4
) (
    input  wire                     clk,
    input  wire                     rst,
    input  wire [16:0]              verdict_tdata,
    input  wire                     verdict_tvalid,
    output wire                     verdict_tready,
    input  wire [16+8*SUM_BYTES-1:0] result_tdata,
    input  wire                     result_tvalid,
    output wire                     result_tready,
    output wire [7:0]               m_axis_tdata,
    output wire                     m_axis_tvalid,
    input  wire                     m_axis_tready,
    output wire [15:0]              class_index,
    output wire                     answered,
    output wire                     failed
);
    localparam BODY = 6 + SUM_BYTES;  // bytes up to the CRC
    localparam BYTES = BODY + 2;
    localparam LEFT_BITS = $clog2(BYTES + 1);
    localparam [LEFT_BITS-1:0] ALL = BYTES;

    initial begin : check_parameters
        if (SUM_BYTES < 1) $fatal(1, "fsq_response_sender: SUM_BYTES=%0d, 1 or more was expected", SUM_BYTES);
    end

    reg [8*BODY-1:0]    block_reg;  // the next byte is the lowest
    reg [LEFT_BITS-1:0] left_reg;
    reg [15:0]          class_reg;
    reg                 answered_reg;
    reg                 failed_reg;

    wire machine = verdict_tdata[16];
    wire bad = verdict_tdata[7:0] != 8'd0;
    wire idle = left_reg == {LEFT_BITS{1'b0}};
    wire take = idle && verdict_tvalid && (result_tvalid || !machine);
    wire step = m_axis_tvalid && m_axis_tready;
    wire in_body = left_reg > 2;
    wire in_magic = left_reg > BYTES - 2;
    wire [15:0] crc;

    assign verdict_tready = take;
    assign result_tready = take && machine;
    assign m_axis_tvalid = !idle;
    assign m_axis_tdata = in_body ? block_reg[7:0] : (left_reg == 2) ? crc[15:8] : crc[7:0];
    assign class_index = class_reg;
    assign answered = answered_reg;
    assign failed = failed_reg;

    fsq_crc16 check (.clk(clk), .clear(in_magic), .enable(step && in_body), .data(m_axis_tdata), .crc(crc));

    always_ff @(posedge clk) begin : control
        if (rst) begin
            left_reg <= {LEFT_BITS{1'b0}};
            class_reg <= 16'd0;
            answered_reg <= 1'b0;
        end else begin
            if (take) left_reg <= ALL;
            else if (step) left_reg <= left_reg - 1'b1;
            if (take && !bad) class_reg <= result_tdata[8*SUM_BYTES +: 16];
            answered_reg <= take;
        end
    end

    always_ff @(posedge clk) begin : data
        failed_reg <= bad;
        if (take) begin
            block_reg[31:0] <= {verdict_tdata[7:0], verdict_tdata[15:8], 16'h7173};
            block_reg[47:32] <= bad ? 16'hFFFF : result_tdata[8*SUM_BYTES +: 16];
            block_reg[48 +: 8*SUM_BYTES] <= bad ? {(8*SUM_BYTES){1'b0}} : result_tdata[8*SUM_BYTES-1:0];
        end else if (step) begin
            block_reg <= {8'd0, block_reg[8*BODY-1:8]};
        end
    end
endmodule
