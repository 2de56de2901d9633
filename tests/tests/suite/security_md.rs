//! What SECURITY.md promises is tested by the tests that it names.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// The names of all functions that stand behind a test attribute in a folder.
fn tests_in(folder: &Path, names: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                tests_in(&path, names);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim_start) {
                if line.starts_with("#[test]") || line.contains("::test") {
                    is_test = true;
                } else if let Some((_, rest)) = line.split_once("fn ")
                    && std::mem::take(&mut is_test)
                {
                    names.extend(rest.split('(').next().map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn every_threat_has_a_number_a_defence_and_tests_that_exist() {
    let mut names = HashSet::new();
    tests_in(&root(), &mut names);
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect())
        .filter(|row: &Vec<_>| row[0].parse::<usize>().is_ok())
        .collect();
    assert!(rows.len() >= 17, "the list of threats is not found");
    for (index, row) in rows.iter().enumerate() {
        let [number, asset, threat, defence, tests] = row[..] else { panic!("{row:?}") };
        assert_eq!(number, (index + 1).to_string());
        assert!([asset, threat, defence].iter().all(|it| !it.is_empty()), "{row:?}");
        let tests: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "threat {number} has no test");
        for test in tests {
            assert!(names.contains(test), "threat {number}: there is no test {test}");
        }
    }
}
