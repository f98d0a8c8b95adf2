// Reset of a board design: on until the clock is steady and the button is let go, then off in step with the clock.
//
// Parameters
//   CYCLES  length of the reset, 2 or more
//
// Ports
//   clk    clock
//   ready  the clock is steady and no reset is asked for; not synchronous to clk
//   rst    reset, active high, comes from a register
module fsq_reset #(
    parameter CYCLES = 16
) (
    input  wire clk,
    input  wire ready,
    output wire rst
);
    initial begin : check_parameters
        if (CYCLES < 2) $fatal(1, "fsq_reset: CYCLES=%0d, 2 or more was expected", CYCLES);
    end

    reg [CYCLES-1:0] shift_reg = {CYCLES{1'b0}};
    reg              rst_reg = 1'b1;

    always_ff @(posedge clk or negedge ready) begin : shift
        if (!ready) shift_reg <= {CYCLES{1'b0}};
        else shift_reg <= {shift_reg[CYCLES-2:0], 1'b1};
    end

    always_ff @(posedge clk) begin : reset_register
        rst_reg <= !shift_reg[CYCLES-1];
    end

    assign rst = rst_reg;
endmodule
