// Lanes of a sparse weight memory that share a stream of values: a bitmap says which lanes of a word hold a value, the others are zero.
//
// The values of all words follow each other without gaps in a memory of READ values a word, which is read again from the start when its end is reached:
// the weights of an engine are used in the same order for ever. Value n waits in column n mod COLUMNS, a small FIFO, until its word asks for it. A word
// takes values of columns that follow each other, so it needs each column once at most, and every lane chooses its column. READ values a cycle are
// enough where the generator says so (hardware/weight_storage.py): a word may take more of them as long as the columns hold enough.
//
// Parameters
//   LANES    lanes of a word
//   BITS     bits of a value
//   READ     values a word of the memory
//   COLUMNS  a multiple of READ, no less than the values of any word
//   WORDS    words of the memory; WORDS * READ is the number of values in all words of the bitmap
//   FILE     $readmemh file of WORDS words, value n of a word at bit n*BITS
//   STYLE    storage of the values, as in fsq_parameter_memory
//
// Ports
//   clk, rst  clock; synchronous reset, active high, of the control state only
//   ready     the columns have been filled once since reset; a word must not come before
//   valid     a word comes
//   bitmap    lane l of it holds a value (bit l)
//   word      the word's lanes, lane l at bit l*BITS; latency 3 cycles. Without `valid` it is undefined
//
// Throughput one word a cycle.
module fsq_sparse_group #(
    parameter LANES = 8,
    parameter BITS = 8,
    parameter READ = 4,
    parameter COLUMNS = 8,
    parameter WORDS = 64,
    parameter FILE = "values.hex",
    parameter STYLE = 0
) (
    input  wire                  clk,
    input  wire                  rst,
    output wire                  ready,
    input  wire                  valid,
    input  wire [LANES-1:0]      bitmap,
    output wire [LANES*BITS-1:0] word
);
    localparam ROWS = 32;                             // a LUT RAM's depth: hardware/weight_storage.py counts on it
    localparam ROW_BITS = 5;
    localparam CAPACITY = COLUMNS * ROWS;
    localparam ROOM_BITS = $clog2(CAPACITY + 1);
    localparam BANKS = COLUMNS / READ;
    localparam BANK_BITS = (BANKS > 1) ? $clog2(BANKS) : 1;
    localparam ADDR_BITS = (WORDS > 1) ? $clog2(WORDS) : 1;
    localparam COLUMN_BITS = (COLUMNS > 1) ? $clog2(COLUMNS) : 1;
    localparam COUNT_BITS = $clog2(LANES + 1);
    localparam SUM_BITS = ((COUNT_BITS > COLUMN_BITS) ? COUNT_BITS : COLUMN_BITS) + 1;

    initial begin : check_parameters
        if (LANES < 1 || BITS < 1 || WORDS < 1) $fatal(1, "fsq_sparse_group: LANES=%0d BITS=%0d WORDS=%0d, 1 or more was expected", LANES, BITS, WORDS);
        if (READ < 1 || COLUMNS % READ != 0) $fatal(1, "fsq_sparse_group: COLUMNS=%0d, a multiple of READ=%0d was expected", COLUMNS, READ);
    end

    // Memory side: a word is asked for whenever the columns have room for it, what is on its way counted as there.
    reg [ADDR_BITS-1:0]  addr_reg;
    reg [ROOM_BITS-1:0]  room_reg;
    reg                  read_reg;
    reg [1:0]            arrive_reg;
    reg [BANK_BITS-1:0]  bank_reg;
    reg [ROW_BITS-1:0]   write_row_reg;
    reg                  ready_reg;
    reg [COUNT_BITS-1:0] taken_reg;
    wire [READ*BITS-1:0] values;
    wire arrives = arrive_reg[1];
    wire [ROOM_BITS-1:0] room_next = room_reg + {{(ROOM_BITS-COUNT_BITS){1'b0}}, taken_reg} - (read_reg ? READ : 0);
    assign ready = ready_reg;

    always_ff @(posedge clk) begin : memory_side
        if (rst) begin
            addr_reg <= {ADDR_BITS{1'b0}};
            room_reg <= CAPACITY;
            read_reg <= 1'b0;
            arrive_reg <= 2'b00;
            bank_reg <= {BANK_BITS{1'b0}};
            write_row_reg <= {ROW_BITS{1'b0}};
            ready_reg <= 1'b0;
        end else begin
            room_reg <= room_next;
            read_reg <= room_next >= READ;
            if (read_reg) addr_reg <= (addr_reg == WORDS - 1) ? {ADDR_BITS{1'b0}} : addr_reg + 1'b1;
            arrive_reg <= {arrive_reg[0], read_reg};
            if (arrives) begin
                bank_reg <= (bank_reg == BANKS - 1) ? {BANK_BITS{1'b0}} : bank_reg + 1'b1;
                if (bank_reg == BANKS - 1) write_row_reg <= write_row_reg + 1'b1;
            end
            if (room_next < READ) ready_reg <= 1'b1;
        end
    end

    fsq_parameter_memory #(.WIDTH(READ*BITS), .DEPTH(WORDS), .FILE(FILE), .STYLE(STYLE), .OUTPUT_REG(1)) memory (
        .clk(clk), .load_bus(115'b0), .enable(1'b1), .addr(addr_reg), .word(values)
    );

    // Stage 1: values before each lane, and of the whole word.
    reg [LANES-1:0]            bitmap_reg;
    reg [LANES*COUNT_BITS-1:0] before_reg;
    reg [COUNT_BITS-1:0]       count_reg;
    wire [COUNT_BITS-1:0]      count = valid ? ones(bitmap) : {COUNT_BITS{1'b0}};

    function automatic [COUNT_BITS-1:0] ones(input [LANES-1:0] bits);
        integer n;
        begin
            ones = {COUNT_BITS{1'b0}};
            for (n = 0; n < LANES; n = n + 1) ones = ones + {{(COUNT_BITS-1){1'b0}}, bits[n]};
        end
    endfunction

    always_ff @(posedge clk) begin : counts
        bitmap_reg <= bitmap;
        if (rst) count_reg <= {COUNT_BITS{1'b0}};
        else count_reg <= count;
    end

    // Stage 2: the column of each lane; columns that give a value go on to their next row. `first`: the column of the word's first value.
    reg [COLUMN_BITS-1:0]       first_reg;
    reg [LANES-1:0]             holds_reg;
    reg [LANES*COLUMN_BITS-1:0] source_reg;
    wire [COLUMNS*BITS-1:0]     heads;

    function automatic [COLUMN_BITS-1:0] column(input [COLUMN_BITS-1:0] from, input [COUNT_BITS-1:0] steps);
        reg [SUM_BITS-1:0] sum;
        begin
            sum = {{(SUM_BITS-COLUMN_BITS){1'b0}}, from} + {{(SUM_BITS-COUNT_BITS){1'b0}}, steps};
            if (COLUMNS != (1 << COLUMN_BITS) && sum >= COLUMNS) sum = sum - COLUMNS;  // a power of two wraps by itself
            column = sum[COLUMN_BITS-1:0];
        end
    endfunction

    always_ff @(posedge clk) begin : choice
        holds_reg <= bitmap_reg;
        if (rst) begin
            first_reg <= {COLUMN_BITS{1'b0}};
            taken_reg <= {COUNT_BITS{1'b0}};
        end else begin
            first_reg <= column(first_reg, count_reg);
            taken_reg <= count_reg;
        end
    end

    genvar c, l;
    generate
        for (c = 0; c < COLUMNS; c = c + 1) begin : gen_column
            reg [ROW_BITS-1:0] row_reg;
            // Steps from `first` to this column, modulo COLUMNS.
            wire [COLUMN_BITS-1:0] ahead = c - first_reg;
            wire [COLUMN_BITS-1:0] behind = c + COLUMNS - first_reg;
            wire taken = {1'b0, (first_reg <= c) ? ahead : behind} < count_reg;
            always_ff @(posedge clk) begin : rows
                if (rst) row_reg <= {ROW_BITS{1'b0}};
                else if (taken) row_reg <= row_reg + 1'b1;
            end
            fsq_memory #(.WIDTH(BITS), .DEPTH(ROWS), .STYLE(1)) fifo (
                .clk(clk), .write(arrives && bank_reg == c / READ), .write_addr(write_row_reg), .write_data(values[(c%READ)*BITS +: BITS]),
                .enable(1'b1), .read_addr(row_reg), .word(heads[c*BITS +: BITS])
            );
`ifndef SYNTHESIS
            reg [ROW_BITS:0] held_reg;
            always_ff @(posedge clk) begin : columns_hold
                if (rst) held_reg <= {(ROW_BITS+1){1'b0}};
                else held_reg <= held_reg + {{ROW_BITS{1'b0}}, arrives && bank_reg == c / READ} - {{ROW_BITS{1'b0}}, taken};
                if (!rst && taken && held_reg == 0) $fatal(1, "fsq_sparse_group: column %0d is empty, READ=%0d is too few for these weights", c, READ);
            end
`endif
        end

        // Stage 3: every lane takes its column, or is zero.
        for (l = 0; l < LANES; l = l + 1) begin : gen_lane
            reg [BITS-1:0] lane_reg;
            if (l == 0) begin : gen_first
                always_ff @(posedge clk) before_reg[COUNT_BITS-1:0] <= {COUNT_BITS{1'b0}};
            end else begin : gen_before
                always_ff @(posedge clk) before_reg[l*COUNT_BITS +: COUNT_BITS] <= ones(bitmap & ((1 << l) - 1));
            end
            always_ff @(posedge clk) source_reg[l*COLUMN_BITS +: COLUMN_BITS] <= column(first_reg, before_reg[l*COUNT_BITS +: COUNT_BITS]);
            always_ff @(posedge clk) begin : choose
                if (!holds_reg[l]) lane_reg <= {BITS{1'b0}};
                else lane_reg <= heads[source_reg[l*COLUMN_BITS +: COLUMN_BITS]*BITS +: BITS];
            end
            assign word[l*BITS +: BITS] = lane_reg;
        end
    endgenerate
endmodule
