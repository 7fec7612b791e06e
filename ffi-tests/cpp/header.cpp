// The C++ header alone, and twice in one program: compiled with and without FIRST.
#include "onceflight.hpp"
#include "onceflight.hpp"

int first();

#ifdef FIRST
int first()
{
    return onceflight::Request("key").raw().key_len == 3 ? 1 : 0;
}
#else
int main()
{
    onceflight::Table table;
    return first() == 1 && table.begin("key").leads() ? 0 : 1;
}
#endif
