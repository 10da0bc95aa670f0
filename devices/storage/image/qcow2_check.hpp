#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "devices/storage/image/qcow2_image.hpp"

namespace viv {

enum class Repair {
    none,
    leaks,  // free what nobody uses
    all,    // and make counts and flags right, and drop entries that point nowhere
};

struct CheckReport {
    uint64_t errors = 0;  // what can lose data when the image is written
    uint64_t leaks = 0;   // clusters that count as used and are not
    uint64_t repaired_errors = 0;
    uint64_t repaired_leaks = 0;
    uint64_t clusters = 0;   // of the disk
    uint64_t allocated = 0;  // of these: in the file
    uint64_t compressed = 0;
    uint64_t zeros = 0;
    uint64_t file_end = 0;              // bytes up to the last cluster in use
    std::vector<std::string> messages;  // the first ones
    [[nodiscard]] bool clean() const { return errors == 0 && leaks == 0; }
};

/// Called with how much of how much is done.
using Progress = std::function<void(uint64_t done, uint64_t total)>;

/// Compares all counts of an image with what it holds. For a repair its file must be open for writing, and nothing else
/// use it; errors and leaks of the report are those that remain. The result is an error when the host failed, or the
/// image is out of bounds.
class Qcow2Checker {
  public:
    static Result<CheckReport> check(Qcow2Image& image, Repair repair, const Progress& progress = {});
};

/// Opens the image at `path` for a check, alone and without what backs it.
Result<std::unique_ptr<Qcow2Image>> open_qcow2_for_check(const std::string& path, Repair repair);

}  // namespace viv
