// Clock generator of the ECP5 boards: one PLL, its output fed back to itself.
//
// Output frequency = input * CLKFB_DIV / CLKI_DIV; the oscillator inside runs CLKOP_DIV times faster, between 400 and 800 MHz.
//
// Parameters
//   CLKI_DIV, CLKFB_DIV, CLKOP_DIV   dividers of the input, the feedback and the output
//   CLKOP_CPHASE                     phase of the output in steps of the oscillator: half a period, CLKOP_DIV / 2
//
// Ports
//   clk_in   oscillator of the board
//   clk      clock of the design
//   locked   the clock is steady
module fsq_clock_ecp5 #(
    parameter CLKI_DIV = 5,
    parameter CLKFB_DIV = 16,
    parameter CLKOP_DIV = 7,
    parameter CLKOP_CPHASE = 3
) (
    input  wire clk_in,
    output wire clk,
    output wire locked
);
    // Charge pump and loop filter as the vendor's tool sets them for these ranges.
    (* ICP_CURRENT="12", LPF_RESISTOR="8", MFG_ENABLE_FILTEROPAMP="1", MFG_GMCREF_SEL="2" *)
    EHXPLLL #(
        .PLLRST_ENA("DISABLED"),
        .INTFB_WAKE("DISABLED"),
        .STDBY_ENABLE("DISABLED"),
        .DPHASE_SOURCE("DISABLED"),
        .OUTDIVIDER_MUXA("DIVA"),
        .OUTDIVIDER_MUXB("DIVB"),
        .OUTDIVIDER_MUXC("DIVC"),
        .OUTDIVIDER_MUXD("DIVD"),
        .CLKOP_ENABLE("ENABLED"),
        .CLKOP_DIV(CLKOP_DIV),
        .CLKOP_CPHASE(CLKOP_CPHASE),
        .CLKOP_FPHASE(0),
        .CLKI_DIV(CLKI_DIV),
        .CLKFB_DIV(CLKFB_DIV),
        .FEEDBK_PATH("CLKOP")
    ) pll (
        .CLKI(clk_in),
        .CLKFB(clk),
        .CLKOP(clk),
        .LOCK(locked),
        .RST(1'b0),
        .STDBY(1'b0),
        .PHASESEL0(1'b0),
        .PHASESEL1(1'b0),
        .PHASEDIR(1'b1),
        .PHASESTEP(1'b1),
        .PHASELOADREG(1'b1),
        .PLLWAKESYNC(1'b0),
        .ENCLKOP(1'b0)
    );
endmodule
