create table t(id integer primary key, name text, value real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000)
  insert into t select i, 'name' || (i * 7919 % 3001), i * 1.5 from n;
create index by_name on t(name);
select count(*), sum(value), min(name), max(name) from t;
select substr(name, 1, 5) k, count(*) from t group by k order by 2 desc, 1 limit 5;
begin; update t set value = -value where id % 3 = 0; delete from t where id > 2500; commit;
select printf('%.2f', avg(value)), hex(zeroblob(4)), upper('abc'), date(0, 'unixepoch') from t;
select a.id, b.name from t a join t b on a.id = b.id * 2 where a.name < 'name11' order by 1 limit 3;
pragma integrity_check;
