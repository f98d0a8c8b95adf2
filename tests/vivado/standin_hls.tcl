# Recording stand-ins of the Vitis HLS commands:   tclsh standin_hls.tcl SCRIPT ARGUMENT...
# A file that does not exist, a top function that no source has, a step without its solution: an error. Nothing is compiled.

namespace eval hls {
    variable record {}
    variable sources {}
    variable benches {}
    variable top ""
    variable part ""
    variable period ""
    variable project 0
    variable solution 0
}
proc hls::note {args} { lappend hls::record $args }
proc hls::need {what value} {
    if {$value eq "" || $value eq "0"} {
        error "no $what"
    }
}
proc open_project {args} {
    if {[llength $args] != 2 || [lindex $args 0] ne "-reset"} {
        error "open_project: $args"
    }
    set hls::project 1
    hls::note open_project [lindex $args 1]
}
proc set_top {name} {
    hls::need project $hls::project
    set hls::top $name
}
proc add_files {args} {
    hls::need project $hls::project
    set bench 0
    while {[string match -* [lindex $args 0]]} {
        if {[lindex $args 0] ne "-tb"} {
            error "add_files: unknown option [lindex $args 0]"
        }
        set bench 1
        set args [lrange $args 1 end]
    }
    set flags [lrange $args 1 end]
    if {[llength $flags] && ([llength $flags] != 2 || [lindex $flags 0] ne "-cflags")} {
        error "add_files: $flags"
    }
    set path [lindex $args 0]
    if {![file isfile $path]} {
        error "add_files: $path does not exist"
    }
    set folder [file dirname $path]
    set file [open $path]
    set text [read $file]
    close $file
    foreach {all header} [regexp -all -inline {#include "([^"]+)"} $text] {
        if {![file isfile [file join $folder $header]] && ![file isfile [file join $folder .. $header]]} {
            error "add_files: [file tail $path] includes $header, which does not exist"
        }
    }
    lappend hls::[expr {$bench ? "benches" : "sources"}] $text
    hls::note add_files [file tail $path]
}
proc open_solution {args} {
    hls::need project $hls::project
    if {[lsort [lsearch -all -inline $args -*]] ne {-flow_target -reset} || [lindex $args end] ne "vivado"} {
        error "open_solution: $args"
    }
    set hls::solution 1
}
proc set_part {name} {
    hls::need solution $hls::solution
    if {$name ni $::env(FSQ_PARTS)} {
        error "set_part: $name is not installed"
    }
    set hls::part $name
}
proc create_clock {args} {
    hls::need solution $hls::solution
    array set o $args
    if {[lsort [array names o]] ne {-name -period} || ![string is double -strict $o(-period)] || $o(-period) <= 0} {
        error "create_clock: $args"
    }
    set hls::period $o(-period)
}
proc hls::ready {step} {
    need "part before $step" $hls::part
    need "clock before $step" $hls::period
    if {![regexp "\\m$hls::top\\s*\\(" [join $hls::sources]]} {
        error "$step: no source has the top function $hls::top"
    }
    note $step
}
proc hls::with_bench {step arguments} {
    ready $step
    array set o $arguments
    if {[array names o] ne "-argv" || ![file isdirectory [lindex $o(-argv) 0]]} {
        error "$step: $arguments names no folder of test data"
    }
    if {![regexp {\mmain\s*\(} [join $hls::benches]]} {
        error "$step: no test bench has main"
    }
}
proc csim_design {args} { hls::with_bench csim_design $args }
proc cosim_design {args} { hls::with_bench cosim_design $args }
proc csynth_design {} { hls::ready csynth_design }
proc export_design {args} {
    hls::ready export_design
    if {$args ne {-format ip_catalog}} {
        error "export_design: $args"
    }
}
proc close_project {} {
    hls::need project $hls::project
    set hls::project 0
}
rename exit real_exit
proc exit {{code 0}} {
    puts "STANDIN ok: $hls::record"
    real_exit $code
}

set script [lindex $argv 0]
set argv [lrange $argv 1 end]
set argc [llength $argv]
if {[catch {source $script} message]} {
    puts stderr "STANDIN error: $message"
    real_exit 1
}
puts stderr "STANDIN error: the script did not exit, so vitis_hls would stay at its prompt"
real_exit 1
