//! "Did you mean": the known name nearest to one that is not known.

/// Names longer than this are not compared: nobody mistypes that, and the work stays small.
const LENGTH_MAX: usize = 64;

/// The name of `known` nearest to `name`, if it is near enough to have been meant.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LENGTH_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    // A third of the letters may be wrong: two in `scpoes`, none in `id`.
    let tolerance = name.chars().count() / 3;
    let scored = known.into_iter().map(|candidate| (distance(&name, candidate), candidate));
    scored.filter(|(d, _)| *d <= tolerance).min_by_key(|(d, _)| *d).map(|(_, candidate)| candidate)
}

/// How many letters must be added, dropped, changed or swapped with their neighbour to turn one into the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut cost = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                cost = cost.min(before[j - 1] + 1);
            }
            next.push(cost);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn near_and_far() {
        assert_eq!(distance("scpoes", "scopes"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        let known = ["scopes", "spec", "metadata", "value"];
        assert_eq!(nearest("scope", known), Some("scopes"));
        assert_eq!(nearest("Metdata", known), Some("metadata"));
        assert_eq!(nearest("vlaue", known), Some("value"));
        assert_eq!(nearest("id", known), None);
        assert_eq!(nearest("unrelated", known), None);
    }
}
