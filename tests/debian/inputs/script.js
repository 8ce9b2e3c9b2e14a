var primes = [];
for (var n = 2; primes.length < 200; n++)
    if (primes.every(function (p) { return n % p; })) primes.push(n);
var words = "the quick brown fox jumps over the lazy dog".split(" ");
print(primes[199], words.map(function (w) { return w.toUpperCase(); }).sort().join("-"));
print(JSON.stringify({ a: [1, 2.5, null], b: "x".concat("y") }), Math.sqrt(2), /(\w+)@(\w+)/.exec("me@here")[2]);
