// AXI4-Stream FIFO with registered output.
//
// Parameters
//   WIDTH  bits of tdata, 1 or more
//   DEPTH  beats it can hold, 1 or more, any number (not only powers of two). The output register counts as one of them.
//   STYLE  0: registers up to 3 beats, then LUT RAM or block memory by the rule of fsq_memory; 1: LUT RAM; 2: block memory
//
// Ports
//   clk, rst           clock; synchronous reset, active high, of the control state only (a reset empties the FIFO)
//   s_axis_*           input: a beat moves when tvalid and tready are both high
//   m_axis_*           output: tdata and tvalid come from registers and stay as they are while tvalid is high and tready low
//   occupancy          beats held now, 0 to DEPTH
//   high_water         largest occupancy since reset (for verification; unconnected it costs nothing)
//
// Throughput one beat a cycle, also while full as soon as the consumer takes a beat every cycle (DEPTH >= 2). For DEPTH = 1 s_axis_tready
// depends on m_axis_tready combinationally, so that a single register still carries one beat a cycle; otherwise tready is a register's value.
// Latency one cycle from input to output when empty (a word bypasses the memory into the output register).
module fsq_fifo #(
    parameter WIDTH = 8,
    parameter DEPTH = 16,
    parameter STYLE = 0
) (
    input  wire                       clk,
    input  wire                       rst,
    input  wire  [WIDTH-1:0]          s_axis_tdata,
    input  wire                       s_axis_tvalid,
    output wire                       s_axis_tready,
    output wire  [WIDTH-1:0]          m_axis_tdata,
    output wire                       m_axis_tvalid,
    input  wire                       m_axis_tready,
    output wire  [$clog2(DEPTH+1)-1:0] occupancy,
    output wire  [$clog2(DEPTH+1)-1:0] high_water
);
    localparam COUNT_BITS = $clog2(DEPTH + 1);
    localparam WORDS = (DEPTH > 1) ? DEPTH - 1 : 1;  // behind the output register
    localparam ADDR_BITS = (WORDS > 1) ? $clog2(WORDS) : 1;
    localparam [COUNT_BITS-1:0] FULL = DEPTH;
    localparam [ADDR_BITS-1:0] LAST = WORDS - 1;
    // The rule of fsq_memory.
`ifdef FSQ_LUT4
    localparam LUT_WORDS = 16;
    localparam LUT_BITS = 512;
`else
    localparam LUT_WORDS = 64;
    localparam LUT_BITS = 4096;
`endif
    localparam IN_LUTS = (STYLE == 1 || (STYLE == 0 && (WORDS <= LUT_WORDS || WORDS * WIDTH <= LUT_BITS))) ? 1 : 0;
    localparam IN_REGISTERS = (STYLE == 0 && WORDS <= 2) ? 1 : 0;

    initial begin : check_parameters
        if (WIDTH < 1) $fatal(1, "fsq_fifo: WIDTH=%0d, 1 or more was expected", WIDTH);
        if (DEPTH < 1) $fatal(1, "fsq_fifo: DEPTH=%0d, 1 or more was expected", DEPTH);
        if (STYLE < 0 || STYLE > 2) $fatal(1, "fsq_fifo: STYLE=%0d, 0, 1 or 2 was expected", STYLE);
    end

    reg [WIDTH-1:0]      out_data_reg;
    reg                  out_valid_reg;
    reg [COUNT_BITS-1:0] count_reg;
    reg [COUNT_BITS-1:0] high_reg;

    wire push = s_axis_tvalid && s_axis_tready;
    wire pop = m_axis_tvalid && m_axis_tready;

    assign m_axis_tdata = out_data_reg;
    assign m_axis_tvalid = out_valid_reg;
    assign occupancy = count_reg;
    assign high_water = high_reg;

    wire [COUNT_BITS-1:0] count_next = count_reg + {{(COUNT_BITS-1){1'b0}}, push} - {{(COUNT_BITS-1){1'b0}}, pop};

    always_ff @(posedge clk) begin : count_beats
        if (rst) begin
            count_reg <= {COUNT_BITS{1'b0}};
            high_reg <= {COUNT_BITS{1'b0}};
        end else begin
            count_reg <= count_next;
            if (count_next > high_reg) high_reg <= count_next;
        end
    end

    generate
        if (DEPTH == 1) begin : gen_register
            assign s_axis_tready = !out_valid_reg || m_axis_tready;
            always_ff @(posedge clk) begin : store
                if (rst) out_valid_reg <= 1'b0;
                else if (s_axis_tready) out_valid_reg <= s_axis_tvalid;
                if (s_axis_tready) out_data_reg <= s_axis_tdata;
            end
        end else begin : gen_memory
            // stored_reg beats lie in the memory; the oldest one is in the output register whenever there is any beat at all.
            reg [COUNT_BITS-1:0] stored_reg;
            reg                  ready_reg;
            wire                 refill = !out_valid_reg || m_axis_tready;
            wire                 empty = stored_reg == {COUNT_BITS{1'b0}};
            wire                 bypass = refill && empty;
            wire                 write = push && !bypass;
            wire                 read = refill && !empty;
            wire [WIDTH-1:0]     word;

            assign s_axis_tready = ready_reg;

            always_ff @(posedge clk) begin : control
                if (rst) begin
                    stored_reg <= {COUNT_BITS{1'b0}};
                    out_valid_reg <= 1'b0;
                    ready_reg <= 1'b0;
                end else begin
                    stored_reg <= stored_reg + {{(COUNT_BITS-1){1'b0}}, write} - {{(COUNT_BITS-1){1'b0}}, read};
                    if (refill) out_valid_reg <= read || push;
                    ready_reg <= count_next != FULL;
                end
            end

            always_ff @(posedge clk) begin : output_register
                if (refill) out_data_reg <= empty ? s_axis_tdata : word;
            end

            if (IN_REGISTERS != 0) begin : gen_shift
                // A shift register: the oldest word sits at stored_reg - 1.
                reg [WIDTH-1:0] shift_reg [0:WORDS-1];
                wire [ADDR_BITS-1:0] oldest = stored_reg[ADDR_BITS-1:0] - {{(ADDR_BITS-1){1'b0}}, 1'b1};
                assign word = shift_reg[oldest];
                integer i;
                always_ff @(posedge clk) begin : shift
                    if (write) begin
                        for (i = WORDS - 1; i > 0; i = i - 1) shift_reg[i] <= shift_reg[i-1];
                        shift_reg[0] <= s_axis_tdata;
                    end
                end
            end else if (IN_LUTS != 0) begin : gen_lutram
                (* ram_style = "distributed", no_rw_check *) reg [WIDTH-1:0] memory [0:WORDS-1];
                reg [ADDR_BITS-1:0] write_reg;
                reg [ADDR_BITS-1:0] read_reg;
                assign word = memory[read_reg];
                always_ff @(posedge clk) begin : store
                    if (write) memory[write_reg] <= s_axis_tdata;
                end
                always_ff @(posedge clk) begin : pointers
                    if (rst) begin
                        write_reg <= {ADDR_BITS{1'b0}};
                        read_reg <= {ADDR_BITS{1'b0}};
                    end else begin
                        if (write) write_reg <= (write_reg == LAST) ? {ADDR_BITS{1'b0}} : write_reg + 1'b1;
                        if (read) read_reg <= (read_reg == LAST) ? {ADDR_BITS{1'b0}} : read_reg + 1'b1;
                    end
                end
            end else begin : gen_block
                // Registered read of the next word ahead of time; a word written to the very address being read is forwarded.
                (* ram_style = "block", no_rw_check *) reg [WIDTH-1:0] memory [0:WORDS-1];
                reg [ADDR_BITS-1:0] write_reg;
                reg [ADDR_BITS-1:0] read_reg;
                reg [WIDTH-1:0]     fetched_reg;
                reg [WIDTH-1:0]     forward_reg;
                reg                 forwarded_reg;
                wire [ADDR_BITS-1:0] after_read = (read_reg == LAST) ? {ADDR_BITS{1'b0}} : read_reg + 1'b1;
                wire [ADDR_BITS-1:0] read_next = read ? after_read : read_reg;
                assign word = forwarded_reg ? forward_reg : fetched_reg;
                always_ff @(posedge clk) begin : store
                    if (write) memory[write_reg] <= s_axis_tdata;
                end
                always_ff @(posedge clk) begin : fetch
                    fetched_reg <= memory[read_next];
                    forward_reg <= s_axis_tdata;
                    forwarded_reg <= write && (write_reg == read_next);
                end
                always_ff @(posedge clk) begin : pointers
                    if (rst) begin
                        write_reg <= {ADDR_BITS{1'b0}};
                        read_reg <= {ADDR_BITS{1'b0}};
                    end else begin
                        if (write) write_reg <= (write_reg == LAST) ? {ADDR_BITS{1'b0}} : write_reg + 1'b1;
                        read_reg <= read_next;
                    end
                end
            end
        end
    endgenerate
endmodule
