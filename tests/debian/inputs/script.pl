my %n;
open my $f, "<", "text.txt" or die;
while (<$f>) { $n{lc $1}++ while /(\w+)/g }
print "$_ $n{$_}\n" for (sort { $n{$b} <=> $n{$a} || $a cmp $b } keys %n)[0..9];
print join(",", map { sprintf "%03b", $_ } 0..7), "\n", 2**0.5, "\n";
open my $o, ">", "o.txt";
print $o "x" x 9999;
exit 3;
