local t = {}
for i = 1, 2000 do t[i] = (i * 7919) % 2003 end
table.sort(t)
local s = {}
for w in ("the quick brown fox jumps over the lazy dog"):gmatch("%a+") do s[#s + 1] = w:upper() end
print(t[1], t[1000], t[2000], table.concat(s, "-"), #s, 2^53, 7 // 2, 7.5 % 2, math.maxinteger)
print(string.format("%q %5.2f %x", "a\nb", 3.14159, 255), select("#", 1, nil, 3))
local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end end)
print(co(), co(), co(), pcall(error, "caught"))
local f = assert(io.open("out.txt", "w")) for i = 1, 500 do f:write(i, "\n") end f:close()
local n = 0 for line in io.lines("out.txt") do n = n + tonumber(line) end print(n)
collectgarbage() os.rename("out.txt", "kept.txt") print(#arg, arg[1], os.getenv("HOME"))
