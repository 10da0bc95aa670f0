#include "vmm/engine/soft/block_pool.hpp"

#include "vmm/core/catch.hpp"

using namespace viv::soft;

TEST_CASE("memory of a block is used again for one of the same size only") {
    BlockPool pool;
    Block* const small = pool.allocate(2);
    Block* const large = pool.allocate(65);
    small->host = reinterpret_cast<const uint8_t*>(small);
    pool.release(small);
    CHECK(small->stale);
    CHECK(pool.allocate(3) != small);
    pool.release(large);
    Block* const again = pool.allocate(2);
    CHECK(again == small);
    CHECK(!again->stale);
    CHECK(again->host == nullptr);
    CHECK(again->count == 2);
    CHECK(pool.allocate(65) == large);
}

TEST_CASE("a pool of blocks says when it has grown enough, and begins anew") {
    BlockPool pool(3);
    uint64_t made = 0;
    while (!pool.is_full()) {
        REQUIRE(++made < 10'000);
        pool.allocate(BlockPool::most_instructions);
    }
    CHECK(made > 500);
    pool.reset();
    CHECK(!pool.is_full());
    CHECK(pool.allocate(1)->count == 1);
}
