#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "devices/virtio/share/virtio_9p.hpp"
#include "devices/virtio/virtio_fuzz_rig_test.hpp"
#include "vmm/core/temporary_folder_test.hpp"

using namespace viv;

namespace {

/// A folder for all runs: with a file, a folder and links that lead out. What runs leave in it is bounded by the file
/// system's names being short here.
struct Folder : TemporaryFolder {
    Folder() {
        close(open(of("a").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        std::filesystem::create_directory(of("d"));
        std::filesystem::create_symlink("/etc", of("l"));
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const Folder folder;
    FuzzInput input(data, size);
    // Nothing is written, so that each run finds the folder as it was.
    auto shared = SharedFolder::open_folder(folder.path(), SharedFolder::Access::read_only);
    VIV_ASSERT(shared.has_value());
    if (input.byte() & 1) (*shared)->walk_by_hand();
    VirtioFuzz fuzz(input);
    auto made = std::make_unique<Virtio9p>(std::move(*shared), "fuzz");
    // Messages with a right head in a page that buffers may lie in, so that more than heads is reached.
    fuzz.run(std::move(made), [&](uint8_t choice) {
        const uint64_t at = uint64_t{input.byte()} << 10;
        const auto body = input.some(48);
        uint64_t to = at;
        const auto put = [&](uint64_t value, unsigned bytes) {
            for (unsigned i = 0; i < bytes; ++i)
                fuzz.board.memory.store(Gpa{to++}, static_cast<uint8_t>(value >> 8 * i));
        };
        put(7 + body.size(), 4);
        constexpr std::array<uint8_t, 26> types{30, 32, 8,  12, 14, 16, 18,  20,  22,  24,  26,  40,  50,
                                                52, 54, 70, 72, 74, 76, 100, 104, 108, 110, 116, 118, 120};
        put(types[choice % types.size()], 1);
        put(1, 2);
        for (const uint8_t byte : body) put(byte, 1);
    });
    return 0;
}
