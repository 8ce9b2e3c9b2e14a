// Values of every kind of type, for print, info locals, ptype and finish.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum color { RED, GREEN = 5, BLUE };
enum flags { NONE = 0, A = 1, B = 2, C = 4 };

struct point {
    int x, y;
};

typedef struct node {
    int value;
    struct node *next;
    char name[8];
} node_t;

union both {
    uint32_t number;
    unsigned char bytes[4];
};

struct bits {
    unsigned low : 3;
    int middle : 5;
    unsigned long long high : 40;
    bool set : 1;
};

struct all {
    struct point corner;
    node_t *list;
    union both both;
    struct bits bits;
    enum color color;
    int (*operation)(int, int);
    double ratios[3];
    struct {
        short inner;
        union {
            int first;
            float second;
        };
    } nested;
    const char *text;
    struct point grid[2][2];
};

struct pair {
    long left;
    double right;
};

struct big {
    int numbers[16];
};

static int add(int left, int right)
{
    return left + right;
}

node_t second = {2, NULL, "second"};
node_t first = {1, &second, "first"};
int table[40] = {1, 2, 3};
const char *greeting = "hello, \"world\"\n";
static unsigned char counts[3] = {7, 'b', 200};
int (*const operations[2])(int, int) = {add, NULL};
_Thread_local int own = 33;

__attribute__((noinline)) struct point make_point(int x, int y)
{
    struct point made = {x, y};
    return made;
}

__attribute__((noinline)) struct pair make_pair(long left, double right)
{
    struct pair made = {left, right};
    return made;
}

__attribute__((noinline)) struct big make_big(int start)
{
    struct big made = {{start}};
    return made;
}

__attribute__((noinline)) double half(double value)
{
    return value / 2;
}

__attribute__((noinline)) float third(float value)
{
    return value / 3;
}

__attribute__((noinline)) long double tenth(long double value)
{
    return value / 10;
}

__attribute__((noinline)) const char *name_of(node_t *node)
{
    return node->name;
}

__attribute__((noinline)) unsigned char small(int value)
{
    return value;
}

__attribute__((noinline)) enum color next_color(enum color color)
{
    return color == RED ? GREEN : BLUE;
}

__attribute__((noinline)) bool is_even(int value)
{
    return value % 2 == 0;
}

__attribute__((noinline)) long long wide(int value)
{
    return value * 10000000000LL;
}

__attribute__((noinline)) void nothing(int *place)
{
    *place = 1;
}

__attribute__((noinline)) int look(struct all *all, int count, char letter, double ratio, struct point by_value)
{
    int here = count * 2;
    char word[16] = "word";
    char full[4] = {'f', 'u', 'l', 'l'};
    unsigned char raw[12] = {0};
    float single = 0.1f;
    double value = ratio / 3;
    long double extended = 1.0L / 3;
    double odd[] = {0, -0.0, 1e300, 1e-5, 123456, 1.0 / 0.0, 100000000000000000000.0};
    bool yes = true;
    void *nowhere = NULL;
    void *data = &table[1];
    const char **strings = &greeting;
    int matrix[2][3] = {{1, 2, 3}, {4, 5, 6}};
    long long wide_number = -1234567890123LL;
    enum flags both = A | C, odd_flags = 8 | B, none = NONE;
    enum color strange = 7;
    uint8_t byte = 200;
    signed char minus = -3;
    static int kept = 12;
    size_t length = strlen(all->text);
    volatile int *const fixed = &here;
    wchar_t letters[3] = L"ab";
    for (int i = 0; i < 2; i++) {
        int here = i + 100;
        kept += here + *fixed;
    }
    kept += matrix[1][1] + word[0] + full[0] + raw[0] + yes + (data != nowhere) + (int)length + both + odd_flags;
    return kept + here + (int)(single + value + (double)extended + odd[4]) + by_value.x + letter + strange + none +
           byte + minus + (int)wide_number + (strings != 0) + letters[0] + counts[0] + own;
}

int main(void)
{
    struct all all = {{3, -4}, &first, {0x01020304}, {5, -3, 1ULL << 39, true}, GREEN, add, {0.5, 1.5, 2},
                      {-7, {0x3f800000}}, "text \t\001\377", {{{1, 2}, {3, 4}}, {{5, 6}, {7, 8}}}};
    struct point where = {8, 9};
    int result = look(&all, 21, 'x', 2.5, where);
    struct point point = make_point(1, 2);
    struct pair pair = make_pair(3, 4.5);
    struct big big = make_big(6);
    double ratio = half(5) + third(1) + (double)tenth(1);
    const char *name = name_of(&second);
    int rest = small(321) + next_color(RED) + is_even(4) + (wide(3) > 0);
    nothing(&rest);
    printf("%d %d %g %s %d\n", result, point.x + (int)pair.left + big.numbers[0], ratio, name, rest + operations[0](1, 2));
    return 0;
}
