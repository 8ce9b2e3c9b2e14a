// In the manner of Dhrystone: records, strings, small procedures, a store in every other line.
// guest: cflags=-O1
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct record {
    struct record *next;
    int kind, number, component;
    char text[31];
};

static struct record records[2];
static int array[50], matrix[50][50], global;
static char letter;

static __attribute__((noinline)) int pick(int a, int b)
{
    global++;
    return a > b ? a - b : b + 3;
}

static __attribute__((noinline)) void change(struct record *r)
{
    struct record *n = r->next;
    n->kind = r->kind;
    n->number = r->number + 5;
    n->component = pick(n->number, r->component);
    memcpy(n->text, r->text, sizeof(n->text));
    r->component = n->component & 127;
    letter ^= n->text[global & 15];
}

static __attribute__((noinline)) void fill(int at, int value)
{
    array[at] = value;
    array[at + 1] = array[at];
    for (int i = at; i <= at + 1; i++)
        matrix[at][i] = at;
    matrix[at][at - 1]++;
    matrix[at + 20][at] = array[at];
}

int main(void)
{
    records[0].next = &records[1];
    records[1].next = &records[0];
    strcpy(records[0].text, "DHRYSTONE-LIKE, SOME STRING");
    strcpy(records[1].text, "DHRYSTONE-LIKE, OTHER ONE");
    for (int i = 0; i < 3000000; i++) {
        records[0].kind = i & 3;
        records[0].number = i;
        change(&records[i & 1]);
        fill(1 + i % 25, i);
        if (strcmp(records[0].text, records[1].text) == 0)
            records[0].text[i & 15] = 'A' + i % 26;
    }
    long sum = letter + global;
    for (int i = 0; i < 50; i++)
        for (int j = 0; j < 50; j++)
            sum += matrix[i][j] + array[j];
    printf("%ld\n", (long)(int)sum);
    return 0;
}
