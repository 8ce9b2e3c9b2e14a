proc fib n {expr {$n < 2 ? $n : [fib [expr {$n - 1}]] + [fib [expr {$n - 2}]]}}
puts [fib 15]
set d [dict create]
foreach w [split [read [open words.txt]] "\n"] {dict incr d [string length $w]}
puts [lsort -integer -stride 2 $d]
puts [regsub -all {[aeiou]} "a regular expression" *]
set f [open out.tcl w]; puts $f [string repeat xyz 100]; close $f
puts [file size out.tcl]
