#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    int key;
    struct node *left, *right;
};

static struct node *insert(struct node *n, int key)
{
    if (!n) {
        n = calloc(1, sizeof(*n));
        n->key = key;
    } else if (key < n->key)
        n->left = insert(n->left, key);
    else
        n->right = insert(n->right, key);
    return n;
}

static int depth(struct node *n)
{
    int l, r;
    if (!n)
        return 0;
    l = depth(n->left);
    r = depth(n->right);
    return 1 + (l > r ? l : r);
}

int main(int argc, char **argv)
{
    struct node *root = NULL;
    unsigned state = 1;
    double sum = 0;
    for (int i = 0; i < 20000; i++) {
        state = state * 1103515245 + 12345;
        root = insert(root, state >> 8);
        sum += 1.0 / (1 + (state >> 20));
    }
    printf("%d %.9f %s\n", depth(root), sum, argc > 1 ? argv[1] : "-");
    return 5;
}
